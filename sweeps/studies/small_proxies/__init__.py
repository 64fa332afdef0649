"""The studies of Wortsman et al. 2023, "Small-scale proxies for large-scale Transformer training instabilities"."""
