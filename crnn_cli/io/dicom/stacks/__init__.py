"""Stacks that were exported as one series for each slice, joined by cardiac phase."""
