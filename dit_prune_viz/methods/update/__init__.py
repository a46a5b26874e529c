"""Weight update: new values for the kept weights and biases."""
