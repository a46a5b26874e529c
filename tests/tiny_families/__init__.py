"""A tiny random pipeline of every family, built from its own configuration classes without any file."""
