"""Erasers: one method a file."""
