"""Runs, curves and CSV files as tables."""
