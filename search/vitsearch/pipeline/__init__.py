"""The stages of a trial as awaitable calls: looked up in the ledger, else made once."""
