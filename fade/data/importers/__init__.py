"""Importers: one file a data set, from its own distribution to the files that the pipeline reads."""
