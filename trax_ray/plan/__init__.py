"""Inputs and options become tasks: one planner for all ways in."""
