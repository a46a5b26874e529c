"""The top bar, and the first steps below it."""
