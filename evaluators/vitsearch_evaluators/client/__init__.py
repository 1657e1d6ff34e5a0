"""The client's side: submit a job to an agent, follow it over faults, fetch its result."""
