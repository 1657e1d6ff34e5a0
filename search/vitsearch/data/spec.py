"""Which data a study uses: the section `task.data` of a space file."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from vitsearch.core.data_sources import LABELS, group_problem, has_masks, missing_root, source_problem
from vitsearch.core.image_size import LEAST_PIXELS, MOST_PIXELS, ImageSize
from vitsearch.errors import DataError


@dataclass(frozen=True)
class DataSpec:
    """The source of the images and how to read it.

    `source` is one of `vitsearch.core.data_sources.SOURCES`, or torch/, hfds/ or wds/ followed by a name.
    `root` is its folder or file (see `vitsearch.core.data_sources.missing_root`); for hfds it is the cache of
    Hugging Face. `image_size` and `channels` (1 grey, 3 colour) describe the stored images; `None`
    takes them from the data. `train_split`, `validation_split` and `test_split` are names of splits, or of
    folders below `root`; `"none"` stands for no split (see `vitsearch.data.split_words`). Without a
    validation split, `validation_share` and `seed` choose the validation images. `input_key` and `target_key`
    name the columns of hfds and the members of wds. `class_names` name classes whose labels are only numbers.
    With `labels` none, the folders below those of the splits are no classes; with masks they hold images and masks.
    `download` allows fetching a set from the network. `holdout_images` is the largest number of training images
    (never more than a tenth of them) that judge models during the search and train none. `group` is a regex that finds
    the group of an image in its path; a group is never split (see `vitsearch.data.groups`).

    Raises `DataError` for a value that is not allowed.
    """

    source: str
    root: str | None = None
    image_size: ImageSize | None = None
    channels: int | None = None
    validation_share: float = 0.1
    seed: int = 0
    train_split: str | None = None
    validation_split: str | None = None
    test_split: str | None = None
    input_key: str | None = None
    target_key: str | None = None
    class_names: tuple[str, ...] | None = None
    download: bool = False
    holdout_images: int = 2000
    labels: str = "folders"
    group: str | None = None

    def __post_init__(self) -> None:
        if problem := source_problem(self.source):
            raise DataError(f"data.source: {problem}")
        if not self.root and (problem := missing_root(self.source)):
            raise DataError(f"data.root: {problem}")
        if self.channels not in (None, 1, 3):
            raise DataError(f"data.channels: {self.channels!r}; allowed: 1 (grey), 3 (colour)")
        if self.image_size is not None and not all(
            LEAST_PIXELS <= side <= MOST_PIXELS for side in self.image_size.sides
        ):
            raise DataError(
                f"data.image_size: {self.image_size}; allowed: {LEAST_PIXELS} to {MOST_PIXELS} pixels a side"
            )
        if not 0.0 < self.validation_share < 1.0:
            raise DataError(f"data.validation_share: {self.validation_share!r}; allowed: above 0 and below 1")
        if self.holdout_images < 1:
            raise DataError(f"data.holdout_images: {self.holdout_images!r}; allowed: at least 1")
        if self.labels not in LABELS:
            raise DataError(f"data.labels: {self.labels!r}; allowed: {', '.join(LABELS)}")
        if self.group is not None and (problem := group_problem(self.group)):
            raise DataError(f"data.group: {problem}")
        if self.class_names is not None and len(set(self.class_names)) != len(self.class_names):
            raise DataError("data.class_names: a name is listed twice")

    @property
    def is_labelled(self) -> bool:
        return self.labels != "none"

    @property
    def has_masks(self) -> bool:
        return has_masks(self.source, self.labels)

    def to_json(self) -> dict[str, Any]:
        size = None if self.image_size is None else self.image_size.to_json()
        return asdict(self) | {"image_size": size}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> DataSpec:
        names, size = value.get("class_names"), value.get("image_size")
        read = {"class_names": None if names is None else tuple(names)}
        return cls(**value | read | {"image_size": None if size is None else ImageSize.of(size)})
