"""Lineage of a run; fingerprints of code and libraries."""
