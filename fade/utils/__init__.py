"""Bounded reads, files, hashing, locks, progress, seeds: no torch, no knowledge of the project."""
