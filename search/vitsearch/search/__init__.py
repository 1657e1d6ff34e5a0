"""One run of a study: which plan is measured, which is trained, and when the search ends."""
