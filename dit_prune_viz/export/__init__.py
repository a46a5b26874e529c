"""Take a pruned model away: as packed files, a diffusers folder, a single file, a recipe, a report."""
