"""Decisions that are formulas: retries, admission, hours, quality."""
