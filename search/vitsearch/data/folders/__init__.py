"""Images in the user's own folders."""
