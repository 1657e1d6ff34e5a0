"""Helpers that know nothing of measuring: JSON, files, processes, plug-ins, TLS. Standard library only."""
