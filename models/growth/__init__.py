"""Models that grow out of others: which can, and how their weights become those of a larger one."""
