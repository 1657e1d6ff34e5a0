"""Helpers without knowledge of measuring: JSON, files, processes, plug-ins, TLS. Standard library only."""
