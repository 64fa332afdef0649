"""The difference of two arms over pairs of runs."""
