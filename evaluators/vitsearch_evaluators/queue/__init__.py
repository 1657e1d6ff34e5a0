"""The device's durable queue: jobs, events and model files, on a disk that may fill up or break."""
