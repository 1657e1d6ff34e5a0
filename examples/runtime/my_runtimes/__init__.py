"""A runtime of the device agent in a package of its own."""
