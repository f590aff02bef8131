"""A team's servers on this machine, from pip packages: PostgreSQL, S3, MLflow, Prefect, a worker. One server
a file."""
