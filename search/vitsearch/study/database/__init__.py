"""Optuna's tables: opening and upgrading them, and the view of one study in them that samplers and the driver share."""
