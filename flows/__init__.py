"""Compositions of tasks that read like a table of contents."""
