"""Networks that the user brings, under `space.backbone`: made by code, or read from an ONNX file."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterator
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, PlainSerializer, field_validator, model_validator
from pydantic.json_schema import SkipJsonSchema

from vitsearch.core.networks import Layout, Network, NetworkFacts, OnnxNetwork, PythonNetwork
from vitsearch.core.onnx_exporters import TORCHSCRIPT
from vitsearch.space.section_base import ChannelDeviations, ChannelNumbers, Size, StartingWeights, Weights
from vitsearch.space.value_types import Text, entry_point, network_name, own_weights, problem


def _facts_json(facts: NetworkFacts | None) -> dict[str, Any] | None:
    return None if facts is None else facts.to_json()


class NetworkSection(StartingWeights):
    """A network that the user brings, under a name that no backbone of timm or of vitsearch has."""

    name: Annotated[Text, AfterValidator(network_name)]
    """Its name in the study."""
    facts: SkipJsonSchema[Annotated[NetworkFacts | None, PlainSerializer(_facts_json)]] = Field(None, alias="(facts)")
    """What was found out about it when the space file was loaded; a study keeps it, a file does not have it."""

    @model_validator(mode="before")
    @classmethod
    def _of_one_kind(cls, data: Any) -> Any:
        if isinstance(data, dict) and {"python", "onnx"} <= data.keys():
            raise problem("a network has either 'python', which names its code, or 'onnx', which names its file")
        return data

    @field_validator("facts", mode="before")
    @classmethod
    def _read_facts(cls, value: Any) -> Any:
        try:
            return NetworkFacts.from_json(value) if isinstance(value, dict) else value
        except (KeyError, TypeError, ValueError) as error:
            raise problem(f"the stored facts about the network are damaged: {error!r}") from None

    @property
    @abstractmethod
    def network(self) -> Network:
        """The network as workers get it."""

    def lines(self) -> Iterator[str]:
        """What was found out about it."""
        if self.facts is not None:
            yield from self.facts.lines()


class PythonSection(NetworkSection):
    """A network that a function of the user's own makes. Workers import its module, which runs its code."""

    python: Annotated[Text, AfterValidator(entry_point)]
    """package.module:function, from an installed package or the folder. The function takes any of classes, channels and
    resolution by name, and returns a torch.nn.Module that gives a logit for each class, or a map of them. The
    resolution is the side of a square, or a pair of height and width."""
    folder: Text = "."
    """Folder of the module (default: that of the space file)."""
    weights: Annotated[Weights, AfterValidator(own_weights)] = "none"
    """none (random) or file:PATH with a state dict of the whole network (safetensors, or what torch.save writes)."""
    resolution: Size
    """Size of the images that the weights were trained at, in pixels: a side, or [height, width]."""

    @model_validator(mode="after")
    def _reads_images(self) -> Self:
        if self.weights != "none" and (self.mean is None or self.std is None):
            raise problem(f"weights {self.weights!r} need mean and std beside them: those of their training")
        return self

    def lines(self) -> Iterator[str]:
        folder = os.path.abspath(os.path.expanduser(self.folder))
        yield f"workers run the code of {self.python} with your rights, as this check has done"
        yield f"its module is looked for in {folder} and among the installed packages"
        yield from super().lines()

    @property
    def network(self) -> Network:
        return PythonNetwork(
            self.name,
            self.python,
            os.path.abspath(os.path.expanduser(self.folder)),
            self.resolution,
            *(() if self.facts is None else (self.facts.architecture, self.facts.exporter, self.facts.structure)),
        )


class OnnxSection(NetworkSection):
    """A network in an ONNX file, which is run as it is: never pruned, never trained."""

    onnx: Text
    """The file. It has one input (images) and one output (a logit for each class)."""
    mean: ChannelNumbers
    """Mean that is subtracted from pixels in [0, 1]: one number, or one for each channel."""
    std: ChannelDeviations
    """Standard deviation by which pixels are divided then."""
    layout: Layout = "nchw"
    """Axes of the input: nchw (channels first) or nhwc (channels last)."""
    resolution: Size
    """Size of the images that it takes, in pixels: a side, or [height, width]."""
    classes: Text | None = None
    """File with the names of its classes, one in each line, in the order of its logits (default: those of the data, in
    their order)."""
    weights: SkipJsonSchema[Text] = ""

    @model_validator(mode="after")
    def _in_the_file(self) -> Self:
        if self.weights not in ("", f"file:{self.onnx}"):
            raise problem("the weights are in the ONNX file: leave 'weights' out")
        object.__setattr__(self, "weights", f"file:{self.onnx}")
        return self

    @property
    def network(self) -> OnnxNetwork:
        path = os.path.abspath(os.path.expanduser(self.onnx))
        classes = os.path.abspath(os.path.expanduser(self.classes)) if self.classes else ""
        facts = () if self.facts is None else (self.facts.architecture, self.facts.opset or TORCHSCRIPT.opset)
        return OnnxNetwork(self.name, path, self.layout, self.resolution, classes, *facts)


def kind_of_network(value: Any) -> str:
    """The tag of a backbone of a space file, for `Either`."""
    if isinstance(value, str):
        return "<word>"
    if isinstance(value, PythonSection) or (isinstance(value, dict) and "python" in value):
        return "<python>"
    is_onnx = isinstance(value, OnnxSection) or (isinstance(value, dict) and "onnx" in value)
    return "<onnx>" if is_onnx else "<mapping>"
