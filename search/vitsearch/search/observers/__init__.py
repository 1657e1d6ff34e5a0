"""What a run reports to beside its progress view: its log file, metrics, an MLflow server, traces."""
