"""Allocation: how the weights to remove are shared out among the layers, exact to one weight."""
