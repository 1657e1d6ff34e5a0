"""Fine-tuning.

fine_tune.py     the training loop, accuracy and logits
inference.py     logits, features, accuracy
optimizer.py     AdamW, learning rates, numerical precision
distillation.py  losses against a teacher
augment.py       augmentation
progress.py      how far a training is, for people who wait for it
"""
