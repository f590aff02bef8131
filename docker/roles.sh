#!/bin/sh
# Run by PostgreSQL's image at its first start: a role for each server, which owns its databases and sees no other's.
set -eu
: "${MLFLOW_DB_PASSWORD:?}" "${PREFECT_DB_PASSWORD:?}"
psql -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres <<'SQL'
\getenv mlflow MLFLOW_DB_PASSWORD
\getenv prefect PREFECT_DB_PASSWORD
CREATE ROLE fade_mlflow LOGIN PASSWORD :'mlflow';
CREATE ROLE fade_prefect LOGIN PASSWORD :'prefect';
CREATE DATABASE fade_mlflow OWNER fade_mlflow;
CREATE DATABASE fade_mlflow_auth OWNER fade_mlflow;
CREATE DATABASE fade_prefect OWNER fade_prefect;
REVOKE ALL ON DATABASE fade_mlflow, fade_mlflow_auth, fade_prefect FROM PUBLIC;
SQL
