"""A figure per study, in a file of its name: `draw(runs, folder)` takes its table of runs
(`analysis.tables.runs.read_runs`), writes the pictures that it names into a folder, each beside its numbers, and gives
the claims. Which runs there are is said in `sweeps/studies`. A file goes from `draw` to the numbers that it needs, to
the claims, to the pictures; a picture's line is the mean over seeds, its band goes from the lowest to the highest."""
