"""Load a diffusers pipeline, list its prunable layers, and know how its family is called."""
