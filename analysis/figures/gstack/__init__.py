"""Figures of model growth after Du et al. 2024 (arXiv 2405.15319), one study per file."""
