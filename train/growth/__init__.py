"""Where a grown run starts: the base's weights, the steps that tune them, and the ramp."""
