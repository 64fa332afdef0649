"""A figure per study: `draw(runs, folder)` takes its table of runs (`analysis.tables.runs.read_runs`), writes the pictures
that it names into a folder, each beside its numbers, and gives the claims."""
