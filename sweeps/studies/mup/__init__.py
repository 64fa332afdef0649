"""Checks of parametrisations: Yang et al. 2022 (muP, arXiv 2203.03466) and Dey et al. 2025 (CompleteP, 2505.01618)."""
