"""Growth by other means than stacking, and budgets that share a trunk."""
