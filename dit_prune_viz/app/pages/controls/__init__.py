"""The left column: model, calibration, recipe."""
