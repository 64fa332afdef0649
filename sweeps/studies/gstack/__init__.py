"""Stacking (Du et al. 2024, arXiv 2405.15319): one module per figure or pair of figures."""
