"""What to know before a deployment is believed: combinations that are known to be bad, and what a precision keeps."""
