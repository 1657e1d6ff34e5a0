"""Images in a folder or a tar file."""
