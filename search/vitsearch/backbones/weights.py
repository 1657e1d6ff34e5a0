"""Starting weights of timm models: read, checked, resampled to the resolution, identified by a digest.

All weights go through timm's own loader, which resamples position embeddings and renames old keys. It loads strictly,
into a model with the classes of the weights; a classifier for another number of classes is drawn afterwards, from a
fixed seed.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import timm
import torch
from torch import nn

from vitsearch.backbones.builtin import BUILTIN
from vitsearch.backbones.weights_file import State, choice_of_state, read_state, some
from vitsearch.core.image_size import ImageSize
from vitsearch.core.preprocessing import Interpolation, Preprocessing
from vitsearch.errors import PlanError, WeightsError, first_line
from vitsearch.models import map_head
from vitsearch.models.backbone import Built, ModelSpec
from vitsearch.models.surgery import redraw_zero_norms
from vitsearch_agent.base.canonical_json import digest, file_digest

SEED = 0
RESAMPLED = ("pos_embed", "attention_biases", "relative_position_bias_table")


Resample = Callable[[State, nn.Module, ImageSize, ImageSize], State]
"""(weights, model, size of their images, size of its images) -> the weights that fit the model."""


def _unchanged(state: State, model: nn.Module, old: ImageSize, new: ImageSize) -> State:
    return state


@dataclass(frozen=True)
class BuildRecipe:
    """How timm builds the architecture: its name (tag included) and constructor arguments.

    Two functions fit tensors of a state that depend on the size of the images to a model: `resample` those from
    elsewhere, where timm's loader refuses them at another size, and `resample_own` those of a study, whose images may
    have had any shape. `classifier` holds arguments for `reset_classifier`, besides the number of classes.
    """

    name: str
    arguments: Mapping[str, Any]
    resample: Resample | None = None
    classifier: Mapping[str, Any] = field(default_factory=dict)
    resample_own: Resample = _unchanged

    @property
    def config(self) -> Any:
        """timm's `PretrainedCfg` for the name."""
        return timm.models.get_pretrained_cfg(self.name)

    def create(self, **arguments: Any) -> nn.Module:
        with _without_resampling_warnings():
            model: nn.Module = timm.create_model(self.name, **self.arguments, **arguments)
        return model.eval()

    @property
    def native(self) -> ImageSize:
        """The size of the images of weights of this name."""
        return ImageSize(*self.config.input_size[-2:])

    def create_from_hub(self, size: ImageSize, **arguments: Any) -> nn.Module:
        """Create for a size with weights of the hub; if timm refuses it, load them at the native one and resample."""
        if self.resample is None or not self.arguments:
            return self.create(pretrained=True, **arguments)
        native = replace(self, arguments={}).create(pretrained=True, **arguments)
        model = self.create(**arguments)
        model.load_state_dict(self.resample(native.state_dict(), model, self.native, size))
        return model

    def fitted(self, state: State, size: ImageSize, **arguments: Any) -> State:
        """`state`, of images of the native size, resampled to fit the model of `create` for a size."""
        if self.resample is None:
            return state
        with torch.device("meta"):
            return self.resample(state, self.create(**arguments), self.native, size)


def build(spec: ModelSpec, recipe: BuildRecipe) -> Built:
    """The model of `spec` with its weights; see `Backbone.build` for errors."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        if spec.weights == "none":
            return _random(spec, recipe)
        if spec.weights == "hub":
            return _from_hub(spec, recipe)
        if spec.trained_at is not None:
            return _of_study(spec, recipe, spec.trained_at)
        return _from_file(spec, recipe, weights_path(spec.backbone, spec.weights))


def weights_path(backbone: str, weights: str) -> Path:
    """The file of `builtin` or `file:PATH` weights; `WeightsError` when it does not exist."""
    if weights == "builtin":
        if backbone not in BUILTIN:
            having = ", ".join(sorted(BUILTIN))
            raise WeightsError(f"{backbone} has no built-in weights; only these have: {having}")
        return BUILTIN[backbone].path()
    kind, _, path = weights.partition(":")
    if kind != "file" or not path:
        raise WeightsError(f"weights {weights!r}: must be builtin, hub, none or file:PATH")
    file = Path(path).expanduser()
    if not file.is_file():
        raise WeightsError(f"weights of {backbone}: there is no file {file.absolute()}")
    return file


def note_on(weights: str) -> str | None:
    """What there is to say of a file of weights that can be used; None of all others."""
    kind, _, path = weights.partition(":")
    return choice_of_state(Path(path).expanduser()) if kind == "file" else None


def digest_of(spec: ModelSpec, architecture: str = "") -> str:
    """sha256 that identifies the starting weights, in hexadecimal.

    `builtin` and `file:`: of the bytes of the file. `hub`: of the name of the weights (architecture, tag,
    repository); weights of the hub are assumed not to change under a name. `none`: of the architecture, because the
    weights are drawn from a fixed seed. An `architecture` that no name stands for enters too.
    """
    if architecture:
        file = None if spec.weights == "none" else file_digest(str(weights_path(spec.backbone, spec.weights)))
        return digest({"weights": file, "architecture": architecture, "seed": SEED})
    if spec.weights == "hub":
        config = timm.models.get_pretrained_cfg(spec.backbone)
        named = {"tag": config.tag, "repository": config.hf_hub_id, "url": config.url} if config else {}
        return digest({"weights": "hub", "backbone": spec.backbone.partition(".")[0]} | named)
    if spec.weights == "none":
        return digest({"weights": "none", "backbone": spec.backbone, "seed": SEED})
    return file_digest(str(weights_path(spec.backbone, spec.weights)))


def preprocessing_of(name: str, weights: str) -> Preprocessing | None:
    """How weights read images. None for random ones and for those of a model that timm does not know: they read them by
    the mean and deviation of the data.

    Files of users are taken to read images as timm's weights of this name do. timm's share of a crop is of the side;
    above 1 it pads, which we do not.
    """
    if weights == "none":
        return None
    if name in BUILTIN:
        return BUILTIN[name].preprocessing
    config = timm.models.get_pretrained_cfg(name)
    if config is None:
        return None
    evaluation = timm.data.resolve_data_config(pretrained_cfg=config.to_dict())
    mode: Interpolation = "bilinear" if evaluation["interpolation"] == "bilinear" else "bicubic"
    return Preprocessing(tuple(evaluation["mean"]), tuple(evaluation["std"]), mode, min(1.0, evaluation["crop_pct"]))


def _random(spec: ModelSpec, recipe: BuildRecipe) -> Built:
    model = recipe.create(num_classes=spec.classes, in_chans=spec.channels)
    redraw_zero_norms(model, SEED)
    return _built(spec, recipe, model, head_is_new=True)


def _from_hub(spec: ModelSpec, recipe: BuildRecipe) -> Built:
    config = recipe.config
    if config is None or not config.has_weights:
        raise WeightsError(f"timm has no pretrained weights for {recipe.name}")
    try:
        model = recipe.create_from_hub(spec.resolution, in_chans=spec.channels)
    except (OSError, ValueError, RuntimeError) as error:
        source = config.hf_hub_id or config.url
        raise WeightsError(
            f"weights of {recipe.name} could not be fetched from {source} ({first_line(error)}); "
            "download them where there is a network and name the file ('weights: \"file:PATH\"'), or start from random "
            "ones ('weights: none')"
        ) from error
    fits = spec.classes in (0, config.num_classes) and config.input_size[0] == spec.channels
    return _with_classes(spec, recipe, model, had=config.num_classes, fits=fits)


def _from_file(spec: ModelSpec, recipe: BuildRecipe, path: Path) -> Built:
    state = read_state(path)
    if spec.gives_map and any(key.startswith(f"{map_head.SKIPS}.") for key in state):
        return _of_study(spec, recipe, spec.resolution)
    config = recipe.config
    classifier, first = _names(config.classifier)[0], _names(config.first_conv)[0]
    had = len(state[f"{classifier}.weight"]) if f"{classifier}.weight" in state else 0
    convolution = state.get(f"{first}.weight")
    channels = convolution.shape[1] if convolution is not None and convolution.ndim == 4 else spec.channels
    if channels == 1 != spec.channels and convolution is not None:
        state[f"{first}.weight"] = convolution.repeat(1, spec.channels, 1, 1) / spec.channels
        size = spec.channels
    else:
        size = channels
    try:
        state = recipe.fitted(state, spec.resolution, num_classes=had, in_chans=spec.channels)
        overlay = {"state_dict": state, "num_classes": had, "input_size": (size, *config.input_size[1:])}
        model = recipe.create(pretrained=True, pretrained_cfg_overlay=overlay, num_classes=had, in_chans=spec.channels)
    except (RuntimeError, ValueError, KeyError, AttributeError, AssertionError) as error:
        raise _misfit(spec, recipe, path, state, had, error) from error
    kept = dict(cast(dict[str, Any], model.pretrained_cfg))
    kept.pop("state_dict")  # else the model would hold every weight twice
    model.pretrained_cfg = model.default_cfg = kept  # type: ignore[assignment]
    return _with_classes(spec, recipe, model, had, fits=spec.classes in (0, had) and channels == spec.channels)


def _of_study(spec: ModelSpec, recipe: BuildRecipe, trained_at: ImageSize) -> Built:
    """The model of weights that a study made: those of the same model, perhaps at another size."""
    path = weights_path(spec.backbone, spec.weights)
    state = read_state(path)
    weight = state.get(f"{_names(recipe.config.classifier)[0]}.weight")
    had = 0 if weight is None else len(weight)
    model = recipe.create(num_classes=had, in_chans=spec.channels)
    if spec.gives_map:
        map_head.give_maps(model, _blank(spec))
    try:
        with _without_resampling_warnings():
            model.load_state_dict(recipe.resample_own(state, model, trained_at, spec.resolution))
    except RuntimeError as error:
        raise misfit(spec.backbone, path, state, model.state_dict(), first_line(error)) from error
    return _with_classes(spec, recipe, model, had, fits=spec.classes in (0, had))


def _with_classes(spec: ModelSpec, recipe: BuildRecipe, model: nn.Module, had: int, fits: bool) -> Built:
    if had != spec.classes:
        model.reset_classifier(spec.classes, **recipe.classifier)  # type: ignore[operator]
        if map_head.gives_maps(model):
            map_head.with_classes(model, spec.classes)
    return _built(spec, recipe, model.eval(), head_is_new=not fits)


def _built(spec: ModelSpec, recipe: BuildRecipe, model: nn.Module, head_is_new: bool) -> Built:
    if recipe.config is None:
        raise PlanError(f"{recipe.name}: timm keeps no configuration (mean, std, input size) of this model")
    if not spec.gives_map or map_head.gives_maps(model):
        return Built(model, head_is_new)
    map_head.give_maps(model, _blank(spec))
    return Built(model, head_is_new=True)


def _blank(spec: ModelSpec) -> torch.Tensor:
    return torch.zeros(1, spec.channels, *spec.resolution.sides)


def _misfit(
    spec: ModelSpec, recipe: BuildRecipe, path: Path, state: State, classes: int, error: Exception
) -> WeightsError:
    """An error that names the first keys that do not fit, without those that only depend on the resolution."""
    wanted = recipe.create(num_classes=classes, in_chans=spec.channels).state_dict()
    return misfit(spec.backbone, path, state, wanted, first_line(error))


def misfit(name: str, path: Path, state: State, wanted: State, otherwise: str) -> WeightsError:
    """Say which tensors of a file do not fit a model.

    Args:
        name: The backbone.
        path: The file.
        state: What it holds.
        wanted: The state of the model.
        otherwise: What went wrong, where every tensor fits but for its resolution.

    Returns:
        The error, which names the first keys.
    """
    missing = [key for key in wanted if key not in state]
    extra = [key for key in state if key not in wanted]
    shapes = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(value.shape)}"
        for key, value in wanted.items()
        if key in state and not key.endswith(RESAMPLED) and state[key].shape != value.shape
    ]
    kinds = (("missing", missing), ("not of this model", extra), ("of another shape", shapes))
    wrong = "; ".join(f"{what}: {some(keys)}" for what, keys in kinds if keys)
    fitting = len(state) - len(extra) - len(shapes)
    summary = f"{fitting} of its {len(state)} tensors fit, and the model has {len(wanted)}"
    return WeightsError(f"{path} does not hold weights of {name}: {summary}; {wrong or otherwise}")


@contextmanager
def _without_resampling_warnings() -> Iterator[None]:
    """Suppress torch's advice about speed and indexing during timm's interpolation of position tables."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.searchsorted")
        warnings.filterwarnings("ignore", message="Using a non-tuple sequence for multidimensional indexing")
        yield


def _names(value: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value or ("",))
