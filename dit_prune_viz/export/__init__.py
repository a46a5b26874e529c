"""Files to take away. Empty until exporting is built."""
