"""What is known of a model's inputs: running sums, second moments, recorded inputs."""
