"""What a run measures on a fleet: each device by itself, all of them at once.

measure.py   the cost of a graph
"""
