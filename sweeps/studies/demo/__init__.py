"""The demonstration: a law of small runs predicts a larger one."""
