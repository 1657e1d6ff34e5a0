"""A family of backbones in a package of its own."""
