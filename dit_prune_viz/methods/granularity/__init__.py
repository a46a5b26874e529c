"""Granularity: inside which groups of weights the saliencies are ranked, one choice per layer."""
