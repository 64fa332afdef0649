"""What is asked for: grids of cells, the graph of their bases, and studies."""
