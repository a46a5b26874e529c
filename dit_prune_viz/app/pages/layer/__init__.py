"""Layer: one layer's units and clusters."""
