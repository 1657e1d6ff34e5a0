"""The unpruned models of a study: in which form their files are best, and what they cost and reach."""
