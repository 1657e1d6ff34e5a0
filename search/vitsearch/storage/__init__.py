"""Where results are kept: files named by content, file locks, the ledger."""
