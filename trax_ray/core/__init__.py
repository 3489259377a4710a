"""The decisions of a batch: pure, standard library only, no clock, no randomness, no files."""
