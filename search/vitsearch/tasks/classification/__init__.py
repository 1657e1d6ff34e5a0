"""One class for each image.

task.py        CLASSIFICATION, the task: cross-entropy, KL in nats, metrics
confusion.py   confusion counts, and the figures that follow from them with their intervals
caveats.py     what confusion counts say against an accuracy
divergence.py  Kullback-Leibler divergence between logits
"""
