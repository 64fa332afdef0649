"""One study per file: a function that yields the configurations of its runs."""
