"""Laws of training curves, which know a run by its learning rates (Tissue et al. 2024, arXiv 2408.11029)."""
