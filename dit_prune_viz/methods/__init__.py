"""Everything a person can choose: one self-describing file each, found through the registry."""
