"""One test module per module of laws."""
