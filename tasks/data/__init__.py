"""Data: DVC and Great Expectations."""
