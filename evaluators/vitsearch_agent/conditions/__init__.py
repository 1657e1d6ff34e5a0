"""The state of the device during a measurement: temperature, throttling, swap, power mode."""
