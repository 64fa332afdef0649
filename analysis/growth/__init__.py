"""Whether growing paid."""
