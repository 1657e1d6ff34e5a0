"""Plans, what they resolve to, and the keys that name results. Imports no torch and no database."""
