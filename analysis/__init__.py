"""What the runs say: tables, laws, fits, figures. `python -m analysis --help`."""
