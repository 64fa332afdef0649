"""The laws: what each says, and what a fitter must know to fit it."""
