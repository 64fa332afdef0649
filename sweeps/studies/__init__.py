"""The studies: `<paper>/<figure>.py` holds the cells of one, and its name is its path."""
