"""From a recipe to a plan, to masks, to a pruned model."""
