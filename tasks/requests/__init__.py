"""Erasure requests: leases and status."""
