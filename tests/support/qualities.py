"""A metric of a task in which less is better, for tests of what knows no class."""

from vitsearch.core.metrics import quality

PIXEL_ERROR = quality("pixel_error", worst=10.0, best=0.0, unit="px")
