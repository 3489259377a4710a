"""Local Ray heads of ours. Needs no Ray."""
