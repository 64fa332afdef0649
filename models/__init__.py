"""What is trained: the GPT, its parts, its parametrisations, and what they cost."""
