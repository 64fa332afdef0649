"""Learning rates that fail, and why runs went wrong."""
