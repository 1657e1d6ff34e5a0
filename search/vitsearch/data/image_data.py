"""A data set as the search uses it, and how two data sets differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from vitsearch.core.image_size import ImageSize
from vitsearch.core.keys import DataIdentity
from vitsearch.data.arrays import Labels
from vitsearch.data.holdout import rows_to_learn, set_aside
from vitsearch.data.masks import image_classes
from vitsearch.data.problems import some
from vitsearch.data.splits import Split
from vitsearch_agent.base.canonical_json import digest

SCHEMA = 2
HOLDOUT_IMAGES = 2000


@dataclass(frozen=True, eq=False)
class ImageData:
    """Images of one `image_size`, and their classes in stored order.

    `mean` and `std` (one number per channel, of pixels in [0, 1]) come from the training images.
    At most `holdout_images` of the training images judge models in the search; no training sees them.
    `identity` does not cover the test images, because no result of the search depends on them. They are read on the
    first use of `test`; the search itself never uses it.
    """

    class_names: tuple[str, ...]
    train: Split
    validation: Split
    mean: tuple[float, ...]
    std: tuple[float, ...]
    read_test: Callable[[], Split] | None = field(default=None, repr=False)
    holdout_images: int = HOLDOUT_IMAGES

    @property
    def image_size(self) -> ImageSize:
        return ImageSize(*map(int, self.train.images.shape[1:3]))

    @property
    def channels(self) -> int:
        return int(self.train.images.shape[3])

    @cached_property
    def test(self) -> Split | None:
        """The test images, for the final report only; `None` when the data has none."""
        return self.read_test() if self.read_test is not None else None

    @cached_property
    def holdout(self) -> Labels:
        """Ascending rows of `train` on which compressed models are compared with their base. Nothing is trained,
        fitted or calibrated on them."""
        return set_aside(image_classes(self.train.labels), self.holdout_images, self.train.firsts, self.train.units)

    @cached_property
    def learned(self) -> Labels:
        """The other rows of `train`, ascending, without copies of an image that judges."""
        joined = self.train.firsts if self.train.units is None else self.train.units
        return rows_to_learn(len(self.train), self.holdout, joined)

    @cached_property
    def identity(self) -> DataIdentity:
        """The fingerprint of classes, training, holdout and validation images that keys depend on."""
        fingerprint = digest(
            {
                "schema": SCHEMA,
                "class_names": list(self.class_names),
                "image_size": self.image_size.to_json(),
                "channels": self.channels,
                "train": self.train.sha256,
                "validation": self.validation.sha256,
                "holdout": len(self.holdout),
            }
            | ({} if self.train.firsts is None else {"images": len(set(self.train.firsts.tolist()))})
            | ({} if self.train.units is None else {"units": self.train.units.tolist()})
        )
        return DataIdentity(fingerprint, classes=len(self.class_names), channels=self.channels)

    def labelled(
        self, class_names: tuple[str, ...], label: Callable[[Split], Labels], origin: Mapping[str, Any]
    ) -> ImageData:
        """Give the validation and test images labels from elsewhere.

        Args:
            class_names: The names of the classes.
            label: Finds the labels of a split; those of the test images on the first use of `test`.
            origin: What the labels are from, in JSON types. It enters the digests in the place of the labels, so that
                an image between two classes does not make other data of another machine.

        Returns:
            The same images. Those to learn from keep their labels, which nothing reads.
        """

        def relabelled(split: Split) -> Split:
            return Split(split.images, label(split), digest({"images": split.sha256, "labels": dict(origin)}))

        read = self.read_test
        return replace(
            self,
            class_names=class_names,
            validation=relabelled(self.validation),
            read_test=None if read is None else lambda: relabelled(read()),
        )

    def to_json(self) -> dict[str, Any]:
        """The description that a study stores and `describe_difference` compares."""
        return {
            "fingerprint": self.identity.fingerprint,
            "class_names": list(self.class_names),
            "image_size": self.image_size.to_json(),
            "channels": self.channels,
            "mean": list(self.mean),
            "std": list(self.std),
            "holdout_images": len(self.holdout),
            "splits": {
                name: {"images": len(split), "sha256": split.sha256}
                for name, split in (("train", self.train), ("validation", self.validation))
            },
        }


def describe_difference(stored: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """One line for each difference between two data sets, both as `ImageData.to_json` describes them.

    Empty when the fingerprints are equal: `mean` and `std` follow from the images.
    """
    if stored["fingerprint"] == current["fingerprint"]:
        return []
    lines = [
        f"{key}: the study has {stored[key]}, the data now has {current[key]}"
        for key in ("image_size", "channels", "holdout_images")
        if stored[key] != current[key]
    ]
    found = (
        _class_lines(stored["class_names"], current["class_names"])
        + lines
        + _split_lines(stored["splits"], current["splits"])
    )
    return found or ["task.data.group: the same images, which belong together in another way than in the study"]


def _class_lines(stored: list[str], current: list[str]) -> list[str]:
    gone, new = sorted(set(stored) - set(current)), sorted(set(current) - set(stored))
    lines = [f"classes of the study that the data lacks: {_quoted(gone)}"] if gone else []
    lines += [f"classes of the data that the study lacks: {_quoted(new)}"] if new else []
    if not lines and stored != current:
        lines = [f"order of the classes: the study has {_quoted(stored)}, the data now has {_quoted(current)}"]
    return lines


def _split_lines(stored: dict[str, Any], current: dict[str, Any]) -> list[str]:
    lines = []
    for name in ("train", "validation"):
        before, after = stored[name], current[name]
        if before["images"] != after["images"]:
            lines.append(f"{name}: the study has {before['images']} images, the data now has {after['images']}")
        elif before["sha256"] != after["sha256"]:
            lines.append(f"{name}: {after['images']} images as before, but the images, labels or their order differ")
    return lines


def _quoted(names: list[str]) -> str:
    return some(map(repr, names))
