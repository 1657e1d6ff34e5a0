"""A network that the user's own code makes: a family of its own, whose structure is found."""

from __future__ import annotations

import os
import socket
import traceback
import warnings
from dataclasses import asdict, replace
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.jit._trace import TracerWarning
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vitsearch.backbones.architecture import architecture_of
from vitsearch.backbones.found_family import STRUCTURE, FoundFamily
from vitsearch.backbones.found_structures import kept_structure
from vitsearch.backbones.own_code import SEED, code_digest, make, make_as_written, parameters_of
from vitsearch.backbones.single_network import SingleNetwork
from vitsearch.backbones.tables import resample_tables
from vitsearch.backbones.timm_family import TimmFamily
from vitsearch.backbones.weights import misfit, weights_path
from vitsearch.backbones.weights_file import State, read_state, without_prefix
from vitsearch.core.image_size import ImageSize
from vitsearch.core.networks import PythonNetwork, channels_refused
from vitsearch.errors import NetworkError, PlanError, StageError, WeightsError, first_line, with_type
from vitsearch.export.base import PARITY_LIMIT
from vitsearch.models.backbone import Built, ModelSpec
from vitsearch.models.classifier import ATTRIBUTE, Classifier, find_classifier, with_classes
from vitsearch.models.computed_weights import folded_state
from vitsearch.models.surgery import redraw_zero_norms
from vitsearch.structure.find import DECLARED, SCALES, find_structure
from vitsearch.structure.values import Heads, Structure, Width

CLASSES = 7
"""Of the model that is looked at; a network may be fixed to another number."""
CHANNELS = (3, 1)
"""Of images; the first that a network takes is that of the model that is looked at."""
IMAGES = 2
"""Seen together, so that a network that mixes images is refused."""
MAP_AXES = 4
"""Of outputs for each position of a map, (batch, outputs, height, width)."""
LARGEST_TRACED = ImageSize.square(128)
"""Size of the image on which a structure is found, where the network takes it."""


class PythonFamily(SingleNetwork[PythonNetwork], FoundFamily):
    """The family of one network; see `vitsearch.models.backbone.Backbone`.

    Args:
        network: The network.
    """

    why_no_embed = "is a network of your own, of whose residual stream vitsearch cuts no channels"
    why_no_tokens = "is a network of your own, of which vitsearch drops no tokens"
    why_no_token = "is a network of your own, of which vitsearch knows no distillation head"

    modules = ()

    def supports(self, name: str, knob: str, value: Any) -> str | None:
        if knob == "weights":
            return self._refused_weights(str(value))
        if knob == "distillation" and value == "feature" and examine_network(self.network).classifier is None:
            return f"{name} has no layer whose output is its logits, so its features are not known"
        return super().supports(name, knob, value)

    def size_problem(self, name: str, size: ImageSize) -> str | None:
        return _size_problem(self.network, size)

    def unbuilt(self, name: str) -> nn.Module:
        return examine_network(self.network).model

    def traced_size(self, name: str) -> ImageSize:
        native = self.network.resolution
        is_taken = native > LARGEST_TRACED and self.size_problem(name, LARGEST_TRACED) is None
        return LARGEST_TRACED if is_taken else native

    def structure(self, name: str) -> Structure:
        return _structure_of(self.network, self.traced_size(name))

    def require_architecture(self) -> None:
        """Raise `NetworkError` where the code is not that of the study."""
        here, expected = examine_network(self.network).architecture, self.network.architecture
        if expected not in ("", here):
            raise NetworkError(
                f"{self.network.name}: {self.network.entry} makes another network on {socket.gethostname()} "
                f"({here[:12]}) than the study has ({expected[:12]}); use one code everywhere, or give the new one "
                "another name"
            )

    def why_no_map(self, name: str) -> str | None:
        return None

    def build(self, spec: ModelSpec) -> Built:
        self.require_architecture()
        if (reason := self.supports(spec.backbone, "resolution", spec.resolution)) is not None:
            raise PlanError(reason)
        if (reason := self.refused_channels(spec.channels)) is not None:
            raise PlanError(reason)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            model, is_new = self._random(spec) if spec.weights == "none" else self._from_file(spec)
        setattr(model, STRUCTURE, self.structure(spec.backbone))
        return Built(model.eval(), head_is_new=is_new)

    def refused_channels(self, channels: int) -> str | None:
        """Say why the network takes no images with a number of channels.

        Args:
            channels: 1 or 3.

        Returns:
            The reason; None if it takes them.
        """
        taken = examine_network(self.network).channels
        if channels in taken:
            return None
        return channels_refused(self.network.name, taken, channels)

    def _refused_export(self, name: str) -> str | None:
        return TimmFamily._refused_export(self, name)  # that it is a classifier was seen when it was looked at

    def _refused_weights(self, weights: str) -> str | None:
        """Why a file does not hold weights of the network, whatever the channels of the images."""
        if weights == "none":
            return None
        reasons = []
        for channels in examine_network(self.network).channels:
            try:
                with torch.random.fork_rng(devices=[]):
                    self._loaded(ModelSpec(self.network.name, weights, self.network.resolution, CLASSES, channels))
            except WeightsError as error:
                reasons.append(str(error))
            else:
                return None
        return reasons[0]

    def _random(self, spec: ModelSpec) -> tuple[nn.Module, bool]:
        model = self._sized(spec, spec.classes)
        redraw_zero_norms(model, SEED)
        return model, True

    def _from_file(self, spec: ModelSpec) -> tuple[nn.Module, bool]:
        model, had = self._loaded(spec)
        own = examine_network(self.network)
        if had == spec.classes:
            return model, False
        if own.classifier is None and own.fixed_classes is None and spec.classes:
            made = self._sized(spec, spec.classes)
            drawn = made.state_dict()
            trained = {name: value for name, value in model.state_dict().items() if value.shape == drawn[name].shape}
            made.load_state_dict(drawn | trained)
            return made, True
        self._with_classes(model, spec.classes)
        return model, spec.classes != 0

    def _loaded(self, spec: ModelSpec) -> tuple[nn.Module, int]:
        """The model of a file, with the classes of the file, and their number."""
        path = weights_path(spec.backbone, spec.weights)
        state = self._state(path, spec.channels)
        had = _classes_of(self.network, state) or spec.classes
        model = self._sized(spec, had)
        wanted = model.state_dict()
        trained_at = spec.trained_at or self.network.resolution
        try:
            if spec.resolution != trained_at:
                state = resample_tables(state, model, trained_at, spec.resolution)
            model.load_state_dict(state)
        except RuntimeError as error:
            self._refuse_channels_of(state, spec, had)
            raise misfit(self.network.name, path, state, wanted, first_line(error)) from error
        return model, had

    def _state(self, path: Path, channels: int) -> State:
        """The tensors of a file by the names in the model, where the weights that it computes are plain."""
        own, state = examine_network(self.network), read_state(path)
        plain = own.model.state_dict()
        named = without_prefix(state, plain)
        if named.keys() == plain.keys():
            return named
        classes, size = own.fixed_classes or CLASSES, self.network.resolution
        written = make_as_written(self.network, classes=classes, channels=channels, resolution=size)
        return folded_state(written, without_prefix(state, written.state_dict()))

    def _refuse_channels_of(self, state: State, spec: ModelSpec, classes: int) -> None:
        """Raise `WeightsError` where weights fit the network for images of other channels."""
        path, shapes = weights_path(spec.backbone, spec.weights), {name: value.shape for name, value in state.items()}
        for channels in {*examine_network(self.network).channels} - {spec.channels}:
            other = self._sized(replace(spec, channels=channels), classes).state_dict()
            if shapes == {name: value.shape for name, value in other.items()}:
                raise WeightsError(
                    f"{path} holds weights of {self.network.name} for images of {channels} channels, and "
                    f"these have {spec.channels}; use weights for these, or images of {channels} channels "
                    "('task.data.channels' converts those of a folder)"
                )

    def _sized(self, spec: ModelSpec, classes: int) -> nn.Module:
        """A model with random weights and a number of classes; 0 for none."""
        own = examine_network(self.network)
        asked_for = classes or own.fixed_classes or CLASSES
        made = make(self.network, classes=asked_for, channels=spec.channels, resolution=spec.resolution)
        setattr(made, ATTRIBUTE, Classifier(own.classifier, asked_for))
        if classes != (own.fixed_classes or asked_for):
            self._with_classes(made, classes)
        return made

    def _with_classes(self, model: nn.Module, classes: int) -> None:
        own = examine_network(self.network)
        if own.classifier is None and classes == 0:  # its outputs are no logits but an embedding
            setattr(model, ATTRIBUTE, Classifier(None, 0))
            return
        if own.classifier is None:
            raise PlanError(
                f"{self.network.name} has {own.fixed_classes} fixed outputs, and no single layer produces them, so "
                f"they cannot be changed to {classes} classes; let {self.network.entry} take the argument 'classes'"
            )
        with_classes(model, own.classifier, classes)
        setattr(model, ATTRIBUTE, Classifier(own.classifier, classes))


class ExaminedNetwork:
    """A network as it is, with random weights, on images of its own size.

    Attributes:
        model: It, in evaluation mode. All callers share it: it must not be changed.
        channels: Those of `CHANNELS` that it takes, the model's first.
        gives_map: Whether it gives logits for each position of a map instead of for the image.
        fixed_classes: The number of logits that it gives whatever it is told; None if it takes a number.
        classifier: The path of the layer whose output is its logits.
        architecture: The digest of the architecture.
        exporter: The exporter of torch that writes its files.
    """

    def __init__(self, network: PythonNetwork) -> None:
        accepted = parameters_of(network)
        problems = {channels: _problem(network, channels, network.resolution) for channels in CHANNELS}
        self.channels = tuple(channels for channels in CHANNELS if problems[channels] is None)
        size = network.resolution
        if not self.channels:
            raise NetworkError(
                f"{network.name}: {network.entry} does not classify images of {size.by} pixels "
                f"('resolution: {size.to_json()}'): {problems[CHANNELS[0]]}"
            )
        self.model = make(network, classes=CLASSES, channels=self.channels[0], resolution=size)
        _refuse_compiled(network, self.model)
        images = torch.randn(IMAGES, self.channels[0], *size.sides, generator=torch.Generator().manual_seed(SEED))
        with torch.no_grad():
            logits = self.model(images)
            if not bool(torch.isfinite(logits).all()):
                raise NetworkError(f"{network.name}: its outputs for random images have NaN or infinity")
            if not torch.equal(logits, self.model(images)):
                raise NetworkError(f"{network.name}: its outputs for the same images differ from call to call")
            alone = torch.cat([self.model(images[index : index + 1]) for index in range(IMAGES)])
        if alone.shape != logits.shape or bool((alone - logits).abs().max() > PARITY_LIMIT * logits.abs().max()):
            raise NetworkError(
                f"{network.name}: what it gives for an image depends on the other images of the batch, and a device "
                "runs one image at a time; use no mean, norm or attention over the first axis"
            )
        _refuse_branches(network, self.model, images)
        again = make(network, classes=CLASSES, channels=self.channels[0], resolution=size)
        _refuse_other_weights(network, self.model, again)
        _refuse_training(network, again, images)
        sums = logits.sum(1)
        if bool((logits >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), atol=1e-4):
            raise NetworkError(
                f"{network.name}: its outputs are probabilities, which sum to 1; return the logits, without a softmax"
            )
        self.gives_map = logits.ndim == MAP_AXES
        self.fixed_classes = None if "classes" in accepted else int(logits.shape[1])
        self.classifier = find_classifier(self.model, images)
        setattr(self.model, ATTRIBUTE, Classifier(self.classifier, int(logits.shape[1])))
        try:
            architecture = architecture_of(self.model, images[:1])
        except StageError as error:
            reason = _fixed_batch(self.model, images) or f"no ONNX file can be written of it: {error}"
            raise NetworkError(f"{network.name}: {reason}") from error
        self.architecture, self.exporter = architecture.digest, architecture.exporter


def _refuse_compiled(network: PythonNetwork, model: nn.Module) -> None:
    for name, module in model.named_modules():
        what = f"{network.name}: {repr(name) if name else 'it'} is a"
        if isinstance(module, torch.jit.ScriptModule):
            raise NetworkError(f"{what} TorchScript module, which cannot be cut; return it unscripted")
        if type(module).__name__ == "OptimizedModule":
            raise NetworkError(f"{what} module of torch.compile, which cannot be exported; return it uncompiled")


class _ValuesRead(TorchDispatchMode):  # type: ignore[no-untyped-call]  # of torch's own base class
    """Records each number that Python reads out of a tensor that depends on the images, with the line of code that
    does: `float(x)`, `if x:`.

    Args:
        images: What the network gets in this context.
        turned: The index of a truth value among those read of which Python gets the opposite; None for none.
    """

    def __init__(self, images: torch.Tensor, turned: int | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.read: list[tuple[str, bool | float]] = []
        self._turned, self._dependent = turned, _storages(images)

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        if self._dependent.isdisjoint(_storages((args, kwargs))):
            return result
        self._dependent |= _storages(result)
        if function is torch.ops.aten._local_scalar_dense.default:
            torch_folder = os.path.dirname(torch.__file__)
            frames = traceback.extract_stack()[:-1]
            frame = next((it for it in reversed(frames) if not it.filename.startswith(torch_folder)), frames[-1])
            self.read.append((f"{os.path.basename(frame.filename)} line {frame.lineno}", result))
            if self._turned == len(self.read) - 1:
                return not result
        return result


def _storages(values: Any) -> set[StorageWeakRef]:
    tensors = (it for it in tree_leaves(values) if torch.is_tensor(it) and it.layout is torch.strided)
    return {StorageWeakRef(it.untyped_storage()) for it in tensors}  # type: ignore[no-untyped-call]


def _refuse_branches(network: PythonNetwork, model: nn.Module, images: torch.Tensor) -> None:
    """Refuse a network in which Python decides by what images show: a file would hold one of its ways alone."""
    place = _branch(model, images[:1])
    if place is not None:
        raise NetworkError(
            f"{network.name}: {place} reads a number out of a tensor that depends on the images, and what Python "
            "makes of it is fixed in an exported file; compute it with tensors, such as torch.where"
        )


@torch.no_grad()
def _branch(model: nn.Module, image: torch.Tensor) -> str | None:
    """The first line of code by which a number that Python reads out of the image decides about the output.

    A truth value may be the same for all images of a network that is not trained yet. So each is turned once; where the
    network then raises, as an assertion does, it was a check.
    """
    reads: list[list[tuple[str, bool | float]]] = []
    for factor, offset in SCALES:
        scaled = image * factor + offset
        with _ValuesRead(scaled) as values:
            model(scaled)
        reads.append(values.read)
    for other in reads[1:]:
        pairs = zip_longest(reads[0], other)
        place: str | None = next(((here or there)[0] for here, there in pairs if here != there), None)
        if place is not None:
            return place
    first_of_line = {place: index for index, (place, _) in reversed([*enumerate(reads[0])])}
    logits = model(image.clone())
    for place, index in first_of_line.items():
        if not isinstance(reads[0][index][1], bool):
            return place
        again = image.clone()
        try:
            with _ValuesRead(again, index):
                turned = model(again)
        except Exception:  # noqa: BLE001 - the user's own code
            continue
        if not (torch.is_tensor(turned) and torch.equal(turned, logits)):
            return place
    return None


def _fixed_batch(model: nn.Module, images: torch.Tensor) -> str | None:
    """Why a file would take the number of images of the example alone; None where the model's code does not say so."""
    with warnings.catch_warnings(record=True) as caught, torch.no_grad():
        warnings.simplefilter("always")
        torch.jit.trace(model, (images,), check_trace=False)  # type: ignore[no-untyped-call]
    for warning in caught:
        if issubclass(warning.category, TracerWarning) and str(warning.message).startswith("Using len"):
            place = f"{os.path.basename(warning.filename)} line {warning.lineno}"
            return f"{place} takes len() of a tensor, which fixes the number of images in a file; use its shape[0]"
    return None


def _refuse_other_weights(network: PythonNetwork, first: nn.Module, second: nn.Module) -> None:
    """Refuse a network whose weights are drawn anew each time: every worker would have another one."""
    there = second.state_dict()
    for name, tensor in first.state_dict().items():
        if name not in there or not torch.equal(tensor, there[name]):
            raise NetworkError(
                f"{network.name}: made twice, its {name!r} has other values each time, and each worker makes it anew; "
                "draw them with torch, numpy.random or random, whose seeds are fixed, or from a generator with a seed "
                "of its own, made in the function"
            )


def _refuse_training(network: PythonNetwork, model: nn.Module, images: torch.Tensor) -> None:
    """Refuse a network that gives something else while it is trained, such as the logits of auxiliary heads too."""
    try:
        with warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("ignore")
            output = model.train()(images)
            if torch.is_tensor(output) and output.requires_grad:
                output.sum().backward()  # type: ignore[no-untyped-call]
    except Exception as error:  # the user's own code
        raise NetworkError(f"{network.name}: in training (model.train()) it fails: {first_line(error)}") from error
    if not torch.is_tensor(output):
        raise NetworkError(
            f"{network.name}: in training (model.train()) it gives {type(output).__name__}, and expected are the "
            "logits alone; make it without auxiliary heads (aux_logits=False in torchvision)"
        )
    if not output.requires_grad:
        raise NetworkError(
            f"{network.name}: its outputs have no gradients, so it cannot be trained; set requires_grad of the "
            "parameters that training may change"
        )


def examine_network(network: PythonNetwork) -> ExaminedNetwork:
    """Examine a network, once in a process.

    Args:
        network: The network.

    Returns:
        What it takes and gives.

    Raises:
        NetworkError: It cannot be made, is no classifier of images, or cannot be exported.
    """
    return _examine_network(PythonNetwork(network.name, network.entry, network.folder, network.resolution))


@cache
def _examine_network(network: PythonNetwork) -> ExaminedNetwork:
    return ExaminedNetwork(network)


@cache
def _structure_of(network: PythonNetwork, size: ImageSize) -> Structure:
    own = examine_network(network)

    def find() -> Structure:
        model = make(network, classes=CLASSES, channels=own.channels[0], resolution=size)
        generator = torch.Generator().manual_seed(SEED)
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(SEED)
            image = torch.randn(1, own.channels[0], *size.sides, generator=generator)
            return find_structure(model, image, declared)

    declared = _declared(network, own.model)
    identity: dict[str, Any] = {"architecture": own.architecture, "pixels": size.to_json()}
    identity["declared"] = [asdict(unit) for unit in declared]
    identity["code"] = code_digest(network, own.model)  # two ways to write one graph can be cut in different ways
    structure = kept_structure(identity, find)
    for refusal in structure.refusals:
        if refusal.kind == DECLARED:
            raise NetworkError(f"{network.name}: units() says that {refusal.scope!r} can be cut: {refusal.reason}")
    return structure


def _declared(network: PythonNetwork, model: nn.Module) -> tuple[Heads | Width, ...]:
    """What the network's own method `units` says can be cut; nothing where it has none."""
    method = getattr(model, "units", None)
    if not callable(method):
        return ()
    units = tuple(method())
    for unit in units:
        if not isinstance(unit, Heads | Width):
            raise NetworkError(
                f"{network.name}: units() gives {type(unit).__name__}; allowed: Width and Heads of "
                "vitsearch.structure.values"
            )
    return units


def _classes_of(network: PythonNetwork, state: State) -> int | None:
    """The number of classes of weights of a network; None where no tensor says it."""
    own = examine_network(network)
    if own.classifier is not None:
        weight = state.get(f"{own.classifier}.weight")
        return None if weight is None else len(weight)
    if own.fixed_classes is not None:
        return own.fixed_classes
    few, more = (
        make(network, classes=classes, channels=own.channels[0], resolution=network.resolution).state_dict()
        for classes in (CLASSES, CLASSES + 1)
    )
    for name in (name for name in few if name in more and name in state):
        for size, larger, there in zip(few[name].shape, more[name].shape, state[name].shape, strict=False):
            if size != larger:  # such as two rows for each class, and some for none
                return max(0, CLASSES + (there - size) // (larger - size)) or None
    return None


@cache
def _size_problem(network: PythonNetwork, size: ImageSize) -> str | None:
    own = examine_network(network)
    try:
        return _problem(network, own.channels[0], size)
    except NetworkError as error:  # the function makes the network at its own size, and refuses this one
        return str(error)


def _problem(network: PythonNetwork, channels: int, size: ImageSize) -> str | None:
    """Why images do not go through a network, in the words of what went wrong."""
    model = make(network, classes=CLASSES, channels=channels, resolution=size)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            output = model(torch.zeros(IMAGES, channels, *size.sides))
    except Exception as error:  # noqa: BLE001 - the user's own code
        return f"{with_type(error)}; it gets one argument, float32 images"
    classes = CLASSES if "classes" in parameters_of(network) else None
    is_known = torch.is_tensor(output) and output.ndim in (2, MAP_AXES) and len(output) == IMAGES
    if is_known and classes in (None, output.shape[1]):
        return None
    shape = tuple(output.shape) if torch.is_tensor(output) else type(output).__name__
    expected = f"{IMAGES}, {'classes' if classes is None else classes}"
    of_classes = "" if classes is None else f" and {classes} classes"
    return (
        f"it gives {shape} for {IMAGES} images{of_classes}; expected is a logit for each class, ({expected}), or a map "
        f"of them, ({expected}, height, width)"
    )
