"""The registry: MLflow tracking, versions, lineage, signatures, decisions."""
