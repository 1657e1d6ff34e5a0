"""What a plan is expected to become before it is trained: its accuracy, and costs that a screen does not measure."""
