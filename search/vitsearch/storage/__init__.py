"""Where results stay: files by content, locks, the ledger."""
