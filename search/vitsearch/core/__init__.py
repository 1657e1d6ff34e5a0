"""Plans, what they resolve to, and the keys that name results. No torch, no database."""
