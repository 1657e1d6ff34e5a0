"""What an accuracy is where the images have no labels."""

from __future__ import annotations


def agreement_text(network: str) -> str:
    """What to know before the accuracies of a study are believed whose images are labelled by a network."""
    return (
        f"accuracy is the agreement with the fp32 outputs of {network} itself in onnxruntime, as the images have no "
        f"labels: it compares forms of {network} with each other, and does not say how often they are right"
    )
