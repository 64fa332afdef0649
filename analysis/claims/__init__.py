"""Claims, and the verdicts that follow from intervals."""
