"""A study in its database and in memory: its opening, its stored trials, and the copy from which Optuna draws."""
