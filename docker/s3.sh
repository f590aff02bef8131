#!/bin/sh
# SeaweedFS with three users: the admin makes buckets, MLflow has its own, the team has the data.
set -eu
umask 077
identities=${S3_IDENTITIES:-/tmp/s3.json}
: "${S3_ADMIN_SECRET:?}" "${S3_MLFLOW_SECRET:?}" "${S3_TEAM_SECRET:?}"
cat > "$identities" <<JSON
{"identities": [
  {"name": "admin", "credentials": [{"accessKey": "admin", "secretKey": "$S3_ADMIN_SECRET"}], "actions": ["Admin", "Read", "Write", "List"]},
  {"name": "mlflow", "credentials": [{"accessKey": "mlflow", "secretKey": "$S3_MLFLOW_SECRET"}],
   "actions": ["Read:fade-mlflow", "Write:fade-mlflow", "List:fade-mlflow", "Tagging:fade-mlflow"]},
  {"name": "team", "credentials": [{"accessKey": "team", "secretKey": "$S3_TEAM_SECRET"}],
   "actions": ["Read:fade-data", "Write:fade-data", "List:fade-data", "Tagging:fade-data"]}
]}
JSON
# Only the S3 port leaves this container: master, volume and filer ask for no password.
exec weed server -dir=/data -ip=127.0.0.1 -ip.bind=127.0.0.1 -s3.ip.bind=0.0.0.0 -master.telemetry=false \
  -s3 -s3.config="$identities" -s3.port=8333 -s3.port.iceberg=0 -s3.port.lance=0 -volume.max=0
