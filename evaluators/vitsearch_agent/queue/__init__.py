"""The device's durable queue of jobs, events and model files, on a disk that may be full or damaged."""
