"""Fetching from the web, in processes that reach public addresses only."""
