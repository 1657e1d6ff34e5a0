"""A class for each pixel, learned from masks.

task.py        SEGMENTATION, the task: loss and divergence over pixels, intersection over union
"""
