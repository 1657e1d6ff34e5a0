"""A study in its database. The only place that imports Optuna."""
