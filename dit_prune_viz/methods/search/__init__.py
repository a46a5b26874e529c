"""Search: better masks than the ranked ones, with the same counts."""
