"""Two arms, or two laws, compared."""
