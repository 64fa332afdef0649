"""What would run: priced runs, their states, and the machine that they are planned for."""
