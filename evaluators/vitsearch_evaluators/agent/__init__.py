"""The service on the device: one agent, one worker thread that measures, its HTTP API."""
