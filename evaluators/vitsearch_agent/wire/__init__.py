"""The values that client and agent exchange, and their JSON. They are part of the protocol: see protocol.py."""
