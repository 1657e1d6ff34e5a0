"""From the reports of measuring processes to the figures of a measurement: times, ratios, intervals, energy."""
