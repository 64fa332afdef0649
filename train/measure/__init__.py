"""What is measured: losses, layers, probes, and the flight recorder."""
