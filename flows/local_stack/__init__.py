"""The local stack: PostgreSQL, S3, MLflow, Prefect and a worker on this machine, from pip packages.

One server a file; server.py: the life cycle that they share; stack.py: which servers, in which order."""
