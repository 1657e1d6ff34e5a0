"""The normal distribution, as far as intervals need it."""

Z_95 = 1.96
"""Half a 95 % interval of a normal distribution, in standard deviations; `vitsearch` takes it from here."""
