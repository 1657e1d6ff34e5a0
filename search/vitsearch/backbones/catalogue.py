"""The backbones of a space: those of timm and of vitsearch, and the networks that the user brings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from vitsearch import backbones
from vitsearch.backbones.examine import RATIOS, examine
from vitsearch.core.image_size import ImageSize
from vitsearch.core.networks import Network, NetworkFacts, channels_refused
from vitsearch.core.precisions import AUTO
from vitsearch.core.preprocessing import Preprocessing
from vitsearch.errors import NetworkError, UnknownName
from vitsearch.models.backbone import ModelSpec
from vitsearch.tasks import Task, why_whole_images

TOKENS = ("token_pruning_method", "token_pruning_at")
NEEDS_ONE_OUTPUT = {
    "token_pruning_ratio": "a map has a logit for each token, so none can be dropped",
    "distillation": "a map has no single features or distillation head of an image; use logits",
}
"""Why values of a knob do not go with maps; the second is about all methods but `logits`."""


@dataclass(frozen=True)
class Catalogue:
    """What is asked of the backbones of a space, by name, without importing a user's code.

    Attributes:
        facts: Of networks that were examined, by name.
        problems: Why others cannot be searched, by name.
        gives_map: Whether the backbones are to give maps.
        shows_whole_images: Whether models are to see whole images, whatever their weights were trained on.
    """

    facts: Mapping[str, NetworkFacts]
    problems: Mapping[str, str]
    gives_map: bool = False
    shows_whole_images: bool = False

    @classmethod
    def examined(cls, networks: Iterable[tuple[Network, str]], resolutions: Iterable[ImageSize]) -> Catalogue:
        """Examine networks, each in a process of its own.

        Args:
            networks: Each with its starting weights.
            resolutions: Sizes of images that the space asks for.

        Returns:
            A catalogue with them.
        """
        facts, problems, sizes = {}, {}, tuple(resolutions)
        for network, weights in networks:
            try:
                if _is_backbone(network.name):
                    raise NetworkError(f"{network.name!r} is a backbone of timm or of vitsearch; choose another name")
                facts[network.name] = examine(network, weights, sizes)
            except NetworkError as error:
                problems[network.name] = str(error)
        return cls(facts, problems)

    @classmethod
    def of_facts(cls, facts: Mapping[str, NetworkFacts]) -> Catalogue:
        """A catalogue with what a study keeps of networks, which may not be on this machine."""
        return cls(facts, {})

    def for_task(self, task: Task) -> Catalogue:
        """The same backbones, where all are to give what a task needs.

        Args:
            task: The task.

        Returns:
            A catalogue that refuses what does not go with it.
        """
        return replace(self, gives_map=task.gives_map, shows_whole_images=why_whole_images(task) is not None)

    def matching(self, glob: str, weights: str | None) -> tuple[str, ...]:
        """See `vitsearch.backbones.matching`: a glob names no network of the user's."""
        return backbones.matching(glob, weights)

    def supports(self, name: str, knob: str, value: Any) -> str | None:
        """Say whether a backbone can be built with a knob at a value; see `vitsearch.models.backbone.Backbone`.

        Args:
            name: The backbone.
            knob: A knob, or `weights`.
            value: As the space file has it.

        Returns:
            None if it can, else the reason, in one sentence.

        Raises:
            UnknownName: There is no such backbone.
            NetworkError: It is a network that cannot be searched.
        """
        if name in self.problems:
            raise NetworkError(self.problems[name])
        if self.gives_map and (reason := self._refused_for_maps(name, knob, value)) is not None:
            return reason
        if name not in self.facts:
            return backbones.supports(name, knob, value)
        refusals = self.facts[name].refusals
        if knob.partition("@")[0] == "window_size":
            return None if value is None else refusals["window_size"]
        if knob == "batch":
            return None if str(value) in ("1", AUTO) else refusals.get("batch=open")
        if knob == "resolution":
            return self._refused_resolution(name, value)
        if knob in RATIOS or knob in TOKENS:
            return refusals.get("token_pruning_ratio" if knob in TOKENS else knob) if value else None
        return refusals.get(knob) or refusals.get(f"{knob}={value}")

    def _refused_for_maps(self, name: str, knob: str, value: Any) -> str | None:
        """Why a value does not go with maps. Raises `NetworkError` for a backbone that gives none."""
        if name not in self.facts and (reason := _why_no_map(name)) is not None:
            raise NetworkError(f"{name} {reason}; this task needs a backbone that gives a map")
        if knob == "distillation":
            return None if value in ("none", "logits") else NEEDS_ONE_OUTPUT[knob]
        return NEEDS_ONE_OUTPUT.get("token_pruning_ratio" if knob in TOKENS else knob) if value else None

    def _refused_resolution(self, name: str, size: ImageSize) -> str | None:
        facts = self.facts[name]
        if size in facts.resolutions:
            return None
        taken = ", ".join(map(str, facts.resolutions))
        untried = f"{name} was not tried at {size} pixels; it takes {taken}: list the size in 'space.resolution'"
        return facts.refusals.get(f"resolution={size}") or untried

    def native_resolution(self, name: str) -> ImageSize:
        """Look up at which size the weights of a backbone were trained.

        Args:
            name: The backbone.

        Returns:
            The size of the images.
        """
        return self.facts[name].native_resolution if name in self.facts else backbones.native_resolution(name)

    def own_window(self, name: str, resolution: ImageSize) -> int | None:
        """Look up the default window of a backbone.

        Args:
            name: The backbone.
            resolution: The size of the images.

        Returns:
            The side of the window, in tokens; None if it has none that can be chosen.
        """
        return None if name in self.facts else backbones.own_window(name, resolution)

    def preprocessing(self, name: str, weights: str) -> Preprocessing | None:
        """Look up how starting weights read images.

        Args:
            name: The backbone.
            weights: Its starting weights.

        Returns:
            None where only the space file or the data can say it. Some tasks need the whole image.
        """
        own = None if name in self.facts else backbones.preprocessing(name, weights)
        return replace(own, crop_share=1.0) if own is not None and self.shows_whole_images else own

    def starting_digest(self, spec: ModelSpec) -> str:
        """Name the architecture and the weights that a model starts from.

        Args:
            spec: The model.

        Returns:
            SHA-256 in hexadecimal.

        Raises:
            WeightsError: The weights cannot be found.
        """
        return backbones.starting_digest(spec, self.architecture(spec.backbone))

    def architecture(self, name: str) -> str:
        """Name the architecture of a backbone, where its name does not.

        Args:
            name: The backbone.

        Returns:
            The digest of a network that the user brings; empty for other backbones.
        """
        return self.facts[name].architecture if name in self.facts else ""

    def refused_channels(self, name: str, channels: int) -> str | None:
        """Say why a backbone takes no images with a number of channels.

        Args:
            name: The backbone.
            channels: 1 or 3.

        Returns:
            The reason; None if it takes them.
        """
        taken = self.facts[name].channels if name in self.facts else (channels,)
        return None if channels in taken else channels_refused(name, taken, channels)


@cache
def _why_no_map(name: str) -> str | None:
    return backbones.find(name).why_no_map(name)


def _is_backbone(name: str) -> bool:
    try:
        backbones.find(name)
    except UnknownName:
        return False
    return True
