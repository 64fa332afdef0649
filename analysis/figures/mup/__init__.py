"""Figures and claims of the checks of muP (Yang et al. 2022, arXiv 2203.03466) and CompleteP (Dey et al. 2025)."""
