"""One study per file: a table of runs in, figures and claims out."""
