"""The benchmark: what is compared, how a measured cell is kept, and what its numbers say. No model is run
here."""
