"""How a stage runs on a worker: what it asks for, what it took, and whether it is repeated after a loss. No Ray."""
