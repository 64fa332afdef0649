"""What can be asked for: the schema, the YAML groups, and their composition."""
