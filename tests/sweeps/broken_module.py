"""A module whose import fails with something else than ImportError."""

raise RuntimeError("too early")
