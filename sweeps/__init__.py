"""Many runs: studies, plans, engines. `python -m sweeps --help`."""
