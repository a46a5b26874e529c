"""Compare: the workbench, with the map as controller, pictures and evidence side by side."""
