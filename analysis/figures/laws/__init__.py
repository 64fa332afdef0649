"""Laws put to a source whose entropy and exponents are known."""
