"""What the device goes through while it measures: temperature, throttling, swap, power mode."""
