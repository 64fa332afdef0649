"""One run: data, step, loop, record. `python -m train --help`."""
