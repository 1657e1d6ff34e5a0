"""The service on the device: the agent, its one measuring thread, and its HTTP API."""
