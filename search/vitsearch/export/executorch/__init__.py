"""ExecuTorch programs, lowered to XNNPACK."""
