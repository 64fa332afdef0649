"""Which runs to make within a budget."""
