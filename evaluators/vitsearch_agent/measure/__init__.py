"""Measurement jobs: start fresh child processes and combine their reports into a result."""
