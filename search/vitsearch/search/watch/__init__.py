"""What a run looks at while it runs: whether the device answers, whether stages end, how much is left."""
