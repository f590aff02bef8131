"""Classifiers that judge pictures, and how they are trained."""
