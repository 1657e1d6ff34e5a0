"""The client of an agent: submit a job, follow it over faults, fetch its result."""
