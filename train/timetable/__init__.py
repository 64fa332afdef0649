"""What a run will be, known before it starts: its cost, its learning rates, its shifts. No torch."""
