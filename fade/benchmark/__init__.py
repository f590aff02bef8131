"""The benchmark: what is compared, how a measured cell is stored, what its numbers mean. It runs no model."""
