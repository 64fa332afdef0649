"""What a run leaves behind: its record, metrics, checkpoints and bases. No torch."""
