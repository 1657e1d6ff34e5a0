"""Power meters by name, and what they say about a measurement. Nothing is imported before it is asked for."""
