"""Which weights stay: counts, selection, packed masks, and a model that runs with them."""
