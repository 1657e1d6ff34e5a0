"""Which splits of a timm data set are used for training, for validation, and for the final test."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vitsearch.core.data_sources import kind_of
from vitsearch.data.spec import DataSpec
from vitsearch.data.timm_sets.messages import raises_data_error
from vitsearch.data.timm_sets.open import hub_name
from vitsearch.errors import DataError, did_you_mean

_TRAIN = ("train", "training")
_VALIDATION = ("validation", "val", "valid", "eval", "evaluation")
_TEST = ("test",)
_IN_TWO = ("cifar10", "cifar100", "fashion_mnist", "kmnist", "mnist", "qmnist")


@dataclass(frozen=True)
class SplitNames:
    """``validation`` is ``None`` when it is held out of ``train``; ``test`` is ``None`` when the set has none."""

    train: str
    validation: str | None = None
    test: str | None = None


def split_names(spec: DataSpec) -> SplitNames:
    """The splits that ``spec`` names; for those it leaves out, the set's own.

    Raises :class:`~vitsearch.errors.DataError`, with the existing splits, for a split that does not exist.
    """
    kind, name = kind_of(spec.source), spec.source.partition("/")[2]
    if kind == "tar":
        return _tar_splits(Path(spec.root or "").expanduser())
    if kind == "torch" and name in ("folder", "image_folder"):
        return _folder_splits(spec)
    if kind == "torch" and name in _IN_TWO:
        return _two_splits(spec)
    if kind == "torch":  # torchvision checks the names, which differ from set to set
        return _different(spec, SplitNames(spec.train_split or "train", spec.validation_split or "validation"))
    with raises_data_error(spec, spec.source):
        return _chosen(spec, _hub_splits(spec) if kind == "hfds" else _wds_splits(spec))


def _chosen(spec: DataSpec, names: Sequence[str]) -> SplitNames:
    train = spec.train_split or next((name for name in _TRAIN if name in names), "train")
    validation = spec.validation_split or next((name for name in _VALIDATION if name in names), None)
    for key, split in (("train_split", train), ("validation_split", validation)):
        if split is not None and split.partition("[")[0] not in names:
            raise DataError(
                f"data.{key}: {spec.source} has no split {split!r}; it has {', '.join(names) or 'none'}"
                f"{did_you_mean(split, names)}"
            )
    free = [name for name in _TEST if name in names and name not in (train, validation)]
    return _different(spec, SplitNames(train, validation, free[0] if free else None))


def _different(spec: DataSpec, splits: SplitNames) -> SplitNames:
    if splits.train == splits.validation:
        raise DataError(
            f"data.validation_split: {splits.validation!r} is also the split of {spec.source} to train on; "
            "leave the key out to hold out a share of the training images"
        )
    return splits


def _two_splits(spec: DataSpec) -> SplitNames:
    """Check the words here, because timm opens the test split for every word but train, even a misspelt one."""
    words = dict.fromkeys(_TRAIN, "train") | dict.fromkeys((*_TEST, *_VALIDATION), "test")
    chosen: dict[str, str | None] = {}
    for key, split in (("train_split", spec.train_split or "train"), ("validation_split", spec.validation_split)):
        if split is not None and split not in words:
            raise DataError(f"data.{key}: {spec.source} has no split {split!r}; it has train, test")
        chosen[key] = None if split is None else words[split]
    train, validation = chosen["train_split"] or "train", chosen["validation_split"]
    return _different(spec, SplitNames(train, validation, "test" if "test" not in (train, validation) else None))


def _folder_splits(spec: DataSpec) -> SplitNames:
    root = Path(spec.root or "").expanduser()
    if not root.is_dir():
        raise DataError(f"data.root: {root} is not a folder")
    names = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if spec.train_split is None and not set(_TRAIN) & set(names):
        if spec.validation_split is not None:
            raise DataError(f"data.train_split: {root} has no folder 'train'; it has {', '.join(names) or 'none'}")
        return SplitNames("")  # the root itself holds the class folders
    return _chosen(spec, names)


def _tar_splits(root: Path) -> SplitNames:
    if root.is_file() and root.suffix == ".tar":
        return SplitNames("")
    if not root.is_dir():
        raise DataError(f"data.root: {root} is neither a .tar file nor a folder")
    names = [path.name for path in root.glob("*.tar")]
    found = {
        part: next((f"{word}.tar" for word in words if f"{word}.tar" in names), None)
        for part, words in (("train", _TRAIN), ("validation", _VALIDATION), ("test", _TEST))
    }
    if found["train"] is None:
        raise DataError(f"data.root: {root} has no train.tar; it has {', '.join(sorted(names)) or 'no .tar file'}")
    return SplitNames(found["train"], found["validation"], found["test"])


def _hub_splits(spec: DataSpec) -> list[str]:
    import datasets  # here: an optional package that takes seconds to import

    root = None if spec.root is None else str(Path(spec.root).expanduser())
    builder = datasets.load_dataset_builder(hub_name(spec), cache_dir=root)
    return [str(name) for name in builder.info.splits or builder.config.data_files or ()]


def _wds_splits(spec: DataSpec) -> list[str]:
    root = Path(spec.root or "").expanduser()
    for name in ("_info.json", "info.json"):
        if (root / name).is_file():
            try:
                return list(json.loads((root / name).read_bytes())["splits"])
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(f"{root / name}: is not JSON with a key 'splits': {error}") from error
    if not root.is_dir():
        raise DataError(f"data.root: {root} is not a folder")
    raise DataError(
        f"{root}: has no _info.json; timm needs one beside the shards: "
        '{"splits": {"train": {"name": "train", "filenames": [...], "shard_lengths": [...], "num_samples": N}}}'
    )
