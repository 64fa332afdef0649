"""A fit as a person asks for it: checked, held out, scored, in words and as a picture."""
