"""Experiments: methods × sparsities × prompts × seeds, measured, resumable, as tables and files."""
