"""Files and models of lower precision."""
