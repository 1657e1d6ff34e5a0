"""The likeness of images: encoders without a classifier, held to the outputs of one reference model.

task.py        EMBEDDING, the task: cosine to the reference, neighbours that agree, nearest-neighbour accuracy
"""
