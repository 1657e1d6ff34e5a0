"""From a job to its result: start fresh child processes and combine what they report."""
