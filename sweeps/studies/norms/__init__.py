"""The studies of where a transformer normalises: LayerNorm Scaling (Sun et al. 2025, arXiv 2502.05795), Peri-LN (Kim
et al. 2025, arXiv 2502.02732) and Mix-LN (Li et al. 2024, arXiv 2412.13795)."""
