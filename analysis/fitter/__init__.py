"""The fitter: a law and points in, a result with intervals out. It knows no law by name."""
