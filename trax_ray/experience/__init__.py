"""What runs on this machine took, and what follows for the next ones."""
