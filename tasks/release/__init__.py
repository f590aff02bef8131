"""Releases and replays of registered versions."""
