"""The values that travel between client and agent, and their JSON. Part of the protocol: see protocol.py."""
