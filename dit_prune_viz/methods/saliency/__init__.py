"""Saliency: how much a single weight matters; the smallest are pruned."""
