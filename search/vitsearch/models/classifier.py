"""The classifier of a model: timm's models name it, in other networks it is the layer whose output is the logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from vitsearch.models.surgery import is_pointwise

ATTRIBUTE = "vitsearch_classifier"


@dataclass(frozen=True)
class Classifier:
    """That of a network that is not timm's, kept on the model itself.

    Attributes:
        name: The path of the layer; None if the logits are no layer's output.
        classes: The number of logits.
    """

    name: str | None
    classes: int


def classifiers_of(model: nn.Module) -> list[nn.Module]:
    """Give the modules that make the logits of a model.

    Args:
        model: Of timm, or with a `Classifier`.

    Returns:
        The classifier, or the two of a distilled model; none where no layer makes the logits.
    """
    own: Classifier | None = getattr(model, ATTRIBUTE, None)
    if own is not None:
        return [] if own.name is None else [model.get_submodule(own.name)]
    timm_model: Any = model
    classifier = timm_model.get_classifier()
    return list(classifier) if isinstance(classifier, tuple | list) else [classifier]


def class_count(model: nn.Module) -> int:
    """Count the logits of a model.

    Args:
        model: Of timm, or with a `Classifier`.

    Returns:
        The number of classes.
    """
    own: Classifier | None = getattr(model, ATTRIBUTE, None)
    return int(model.num_classes) if own is None else own.classes  # type: ignore[arg-type]


@torch.no_grad()
def find_classifier(model: nn.Module, images: torch.Tensor) -> str | None:
    """Find the layer whose output is the logits.

    Args:
        model: In evaluation mode.
        images: (batch, channels, height, width).

    Returns:
        The path of a linear layer or of a convolution of kernel size 1; None if no such layer gives the logits.
    """
    outputs: list[tuple[str, torch.Tensor]] = []
    layers = [(name, layer) for name, layer in model.named_modules() if is_pointwise(layer)]
    hooks = [
        layer.register_forward_hook(lambda _, __, output, name=name: outputs.append((name, output)))
        for name, layer in layers
    ]
    try:
        logits = model(images)
    finally:
        for hook in hooks:
            hook.remove()
    same = (name for name, output in reversed(outputs) if output.numel() == logits.numel())
    by_name = dict(outputs)
    return next((name for name in same if torch.equal(by_name[name].flatten(), logits.flatten())), None)


def with_classes(model: nn.Module, name: str, classes: int) -> None:
    """Replace a classifier by a new one, in place.

    Args:
        model: The network.
        name: The path of its classifier.
        classes: The number of logits of the new one, which is drawn from torch's generator; 0 for none: the model then
            gives what its classifier read.
    """
    old = model.get_submodule(name)
    new: nn.Module
    if classes == 0:
        new = nn.Identity()
    elif isinstance(old, nn.Linear):
        new = nn.Linear(old.in_features, classes, bias=old.bias is not None)
    else:
        assert isinstance(old, nn.Conv2d)
        new = nn.Conv2d(old.in_channels, classes, 1, bias=old.bias is not None)
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, new)
