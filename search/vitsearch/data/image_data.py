"""A data set as the search sees it, and what tells it from another one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from vitsearch.core.keys import DataIdentity
from vitsearch.data.splits import Split
from vitsearch_evaluators.base.canonical_json import digest

SCHEMA = 1


@dataclass(frozen=True, eq=False)
class ImageData:
    """Images of ``image_size`` pixels squared with their classes, in the stored order of the classes.

    ``mean`` and ``std`` (one number per channel, of pixels in [0, 1]) come from the training images.
    ``identity`` does not cover the test images: nothing that is searched depends on them, and they
    are read only when :attr:`test` is first asked for, which the search never does.
    """

    class_names: tuple[str, ...]
    train: Split
    validation: Split
    mean: tuple[float, ...]
    std: tuple[float, ...]
    read_test: Callable[[], Split] | None = field(default=None, repr=False)

    @property
    def image_size(self) -> int:
        return int(self.train.images.shape[1])

    @property
    def channels(self) -> int:
        return int(self.train.images.shape[3])

    @cached_property
    def test(self) -> Split | None:
        """For the final report only; ``None`` when the data has no test images."""
        return self.read_test() if self.read_test is not None else None

    @cached_property
    def identity(self) -> DataIdentity:
        fingerprint = digest(
            {
                "schema": SCHEMA,
                "class_names": list(self.class_names),
                "image_size": self.image_size,
                "channels": self.channels,
                "train": self.train.sha256,
                "validation": self.validation.sha256,
            }
        )
        return DataIdentity(fingerprint, classes=len(self.class_names), channels=self.channels)

    def to_json(self) -> dict[str, Any]:
        """What a study stores and :func:`describe_difference` reads."""
        return {
            "fingerprint": self.identity.fingerprint,
            "class_names": list(self.class_names),
            "image_size": self.image_size,
            "channels": self.channels,
            "mean": list(self.mean),
            "std": list(self.std),
            "splits": {
                name: {"images": len(split), "sha256": split.sha256}
                for name, split in (("train", self.train), ("validation", self.validation))
            },
        }


def describe_difference(stored: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """One line for each way in which two data sets differ, both as :meth:`ImageData.to_json` describes them.

    Empty when both have one fingerprint: ``mean`` and ``std`` follow from the images.
    """
    if stored["fingerprint"] == current["fingerprint"]:
        return []
    lines = [
        f"{key}: the study has {stored[key]}, the data now {current[key]}"
        for key in ("image_size", "channels")
        if stored[key] != current[key]
    ]
    return (
        _class_lines(stored["class_names"], current["class_names"])
        + lines
        + _split_lines(stored["splits"], current["splits"])
    )


def _class_lines(stored: list[str], current: list[str]) -> list[str]:
    gone, new = sorted(set(stored) - set(current)), sorted(set(current) - set(stored))
    lines = [f"classes that the study has and the data lacks now: {_some(gone)}"] if gone else []
    lines += [f"classes that the study does not know: {_some(new)}"] if new else []
    if not lines and stored != current:
        lines = [f"order of the classes: the study has {_some(stored)}, the data now {_some(current)}"]
    return lines


def _split_lines(stored: dict[str, Any], current: dict[str, Any]) -> list[str]:
    lines = []
    for name in ("train", "validation"):
        before, after = stored[name], current[name]
        if before["images"] != after["images"]:
            lines.append(f"{name}: the study has {before['images']} images, the data now {after['images']}")
        elif before["sha256"] != after["sha256"]:
            lines.append(f"{name}: {after['images']} images as before, but images, labels or their order differ")
    return lines


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(repr(name) for name in names[:5]) + more
