"""Who watches a run: trackers and the progress bar."""
