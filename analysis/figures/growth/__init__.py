"""Other ways to grow, and branches of one trunk: one module per study."""
