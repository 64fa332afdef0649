"""What the other studies of stability draw and claim."""
