"""The device of a run: connect, measure, wait while it is unavailable, remember its address."""
