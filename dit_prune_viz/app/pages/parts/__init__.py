"""Which part does what: on the Compare page for the whole model, on the Layer page for the clusters of a layer."""
