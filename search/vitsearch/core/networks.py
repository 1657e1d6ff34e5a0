"""Networks that a user brings: made by the user's own code, or read from an ONNX file.

The driver never imports a user's code. A child process examines it (`vitsearch.backbones.examine`); what the driver has
to know of it are the `NetworkFacts`, which the study keeps with its space file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from vitsearch.core.image_size import ImageSize
from vitsearch.core.onnx_exporters import DYNAMO, TORCHSCRIPT, OnnxExporter, exporter_of, of_file

Layout = Literal["nchw", "nhwc"]


@dataclass(frozen=True)
class NetworkFacts:
    """What the driver knows of a network that it does not import.

    Attributes:
        architecture: SHA-256 of the classes of its modules, the names and shapes of its parameters and the graph of its
            fp32 file. Other code has another one.
        native_resolution: The size of the images of its weights.
        channels: Channels of images that it takes, of 1 and 3.
        classes: The number of logits that it is fixed to; None if it takes any number.
        resolutions: Sizes of images that were tried and that it takes.
        refusals: Reasons, by knob or by `knob=value`.
        levels: Sentences on what of it can be cut.
        exporter: The name of the exporter of torch that writes its files (`vitsearch.core.onnx_exporters`).
        opset: Of a network that is an ONNX file.
        gives_map: Whether it gives logits for each position of a map instead of for the image.
        structure: SHA-256 of what of it can be cut, which its code may say (`units`) without being another network.
    """

    architecture: str
    native_resolution: ImageSize
    channels: tuple[int, ...]
    classes: int | None
    resolutions: tuple[ImageSize, ...]
    refusals: Mapping[str, str]
    levels: tuple[str, ...] = ()
    exporter: str = TORCHSCRIPT.name
    opset: int | None = None
    gives_map: bool = False
    structure: str = ""

    def to_json(self) -> dict[str, Any]:
        lists = {"channels": list(self.channels), "levels": list(self.levels)}
        lists["resolutions"] = [size.to_json() for size in self.resolutions]
        return asdict(self) | lists | {"native_resolution": self.native_resolution.to_json()}

    def lines(self) -> Iterator[str]:
        """What it takes and what can be cut."""
        classes = "any number of classes" if self.classes is None else f"{self.classes} classes"
        channels = " or ".join(map(str, self.channels))
        sizes = ", ".join(map(str, self.resolutions))
        yield f"takes images of {channels} channel{'s' if channels != '1' else ''}, of {sizes} pixels; {classes}"
        if self.gives_map:
            yield "gives a map: logits for each of its positions"
        yield from self.levels
        yield f"architecture {self.architecture[:12]}"

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> NetworkFacts:
        return cls(
            value["architecture"],
            ImageSize.of(value["native_resolution"]),
            tuple(value["channels"]),
            value["classes"],
            tuple(map(ImageSize.of, value["resolutions"])),
            dict(value["refusals"]),
            tuple(value["levels"]),
            value["exporter"],
            value["opset"],
            value["gives_map"],
            value["structure"],
        )


@dataclass(frozen=True)
class PythonNetwork:
    """A network that a function makes.

    Attributes:
        name: Its name in the study.
        entry: `package.module:function`. The function takes any of `classes`, `channels` and `resolution`, which is the
            side of square images, or height and width.
        folder: Where the module is looked for, besides the installed packages.
        resolution: The size of the images of its weights.
        architecture: That of its facts; empty before it is examined.
        exporter: That of its facts.
        structure: That of its facts.
    """

    name: str
    entry: str
    folder: str
    resolution: ImageSize
    architecture: str = ""
    exporter: str = TORCHSCRIPT.name
    structure: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"resolution": self.resolution.to_json()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> PythonNetwork:
        return cls(**{**value, "resolution": ImageSize.of(value["resolution"])})


@dataclass(frozen=True)
class OnnxNetwork:
    """A network in a file, which is run as it is.

    Attributes:
        name: Its name in the study.
        path: The file.
        layout: Of its input.
        resolution: The size of the images that it takes.
        classes: A file with the name of the class of each logit; empty if they are those of the data, in their order.
        architecture: That of its facts; empty before it is examined.
        opset: That of its facts.
    """

    name: str
    path: str
    layout: Layout
    resolution: ImageSize
    classes: str = ""
    architecture: str = ""
    opset: int = TORCHSCRIPT.opset

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"resolution": self.resolution.to_json()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> OnnxNetwork:
        return cls(**{**value, "resolution": ImageSize.of(value["resolution"])})


Network = PythonNetwork | OnnxNetwork
Networks = tuple[Network, ...]


def channels_refused(name: str, taken: Sequence[int], channels: int) -> str:
    """Say why a network takes no images with a number of channels.

    Args:
        name: The network.
        taken: Channels that it takes.
        channels: Those of the images.

    Returns:
        One sentence, with what helps.
    """
    own = " or ".join(map(str, taken))
    return (
        f"{name} takes images with {own} channel{'s' if own != '1' else ''}, and these have {channels}; let its code "
        "take 'channels', or convert the images of a folder with 'task.data.channels'"
    )


def network_named(name: str, networks: Networks) -> Network | None:
    """Look up a network of the user's.

    Args:
        name: A backbone.
        networks: Those of a study.

    Returns:
        The network; None for a backbone of timm or of vitsearch.
    """
    return next((network for network in networks if network.name == name), None)


def architecture_of(name: str, networks: Networks) -> str:
    """Name the architecture of a backbone, where its name does not.

    Args:
        name: The backbone.
        networks: Those of a study.

    Returns:
        The digest of a network that the user brings; empty for other backbones.
    """
    network = network_named(name, networks)
    return "" if network is None else network.architecture


def exporter_for(backbone: str, networks: Networks) -> OnnxExporter:
    """The exporter that writes the files of a backbone, which may be a network of the user's.

    Args:
        backbone: Its name.
        networks: Those of the study.

    Returns:
        One of torch's two exporters; for an ONNX file, what stands for one.
    """
    network = network_named(backbone, networks)
    if network is None:
        return exporter_of(backbone)
    if isinstance(network, OnnxNetwork):
        return of_file(network.opset)
    return DYNAMO if network.exporter == DYNAMO.name else TORCHSCRIPT
