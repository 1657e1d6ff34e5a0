"""TFLite files, by a converter in an environment of its own."""
