"""Map: all layers at a glance."""
