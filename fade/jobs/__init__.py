"""Jobs: frozen JSON values that several processes work on (``python -m fade.jobs.worker job.json``)."""
