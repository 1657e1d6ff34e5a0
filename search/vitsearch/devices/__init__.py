"""The device of a run: its address, its measurements, and waiting while it is unavailable."""
