"""Public helpers for tests: fakes of the boundaries, and what every backbone family must satisfy."""
