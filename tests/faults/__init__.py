"""Faults, put into the product's work at random places, and what must hold after each of them."""
