"""MLflow runs: tracker, event log, uploader and lineage."""
