"""Measurement jobs: start or fork child processes and combine their reports into a result."""
