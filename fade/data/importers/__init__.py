"""One data set a file: how a copy of it is recognised, and what becomes of it. Shared: reading, converting,
writing."""
