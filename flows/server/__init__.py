"""The Prefect server that flows run on."""
