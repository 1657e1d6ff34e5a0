"""Which splits of a timm data set are used for training, for validation, and for the final test."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from vitsearch.core.data_sources import kind_of
from vitsearch.data.problems import some
from vitsearch.data.spec import DataSpec
from vitsearch.data.split_words import ALLOWED, HERE, KEYS, NONE, ROLES, Role, key_line, role_of
from vitsearch.data.timm_sets.messages import raises_data_error
from vitsearch.data.timm_sets.open import hub_name
from vitsearch.errors import DataError, did_you_mean

_TRAIN = ("train", "training")
_VALIDATION = ("validation", "val", "valid", "eval", "evaluation")
_TEST = ("test",)
_IN_TWO = ("cifar10", "cifar100", "fashion_mnist", "kmnist", "mnist", "qmnist")


@dataclass(frozen=True)
class SplitNames:
    """`validation` is `None` when it is held out of `train`; `test` is `None` when the set has none."""

    train: str
    validation: str | None = None
    test: str | None = None


def split_names(spec: DataSpec) -> SplitNames:
    """The splits that `spec` names; for those it leaves out, the set's own.

    Raises `DataError`, with the existing splits, for a split that does not exist.
    """
    kind, name = kind_of(spec.source), spec.source.partition("/")[2]
    if kind == "tar":
        return _tar_splits(Path(spec.root or "").expanduser())
    if kind == "torch" and name in ("folder", "image_folder"):
        return _folder_splits(spec)
    if kind == "torch" and name in _IN_TWO:
        return _two_splits(spec)
    if kind == "torch":  # torchvision checks the names, which differ from set to set
        validation = None if spec.validation_split == NONE else spec.validation_split or "validation"
        test = None if spec.test_split == NONE else spec.test_split
        return _different(spec, SplitNames(spec.train_split or "train", validation, test))
    with raises_data_error(spec, spec.source):
        return _chosen(spec, _hub_splits(spec) if kind == "hfds" else _wds_splits(spec))


def _chosen(spec: DataSpec, names: Sequence[str]) -> SplitNames:
    train = spec.train_split or next((name for name in _TRAIN if name in names), "train")
    validation = _named(spec.validation_split, _VALIDATION, names, {train, spec.test_split})
    test = _named(spec.test_split, _TEST, names, {train, validation})
    for role, split in (("train", train), ("validation", validation), ("test", test)):
        if split is not None and split.partition("[")[0] not in names:
            raise DataError(
                f"data.{role}_split: {spec.source} has no split {split!r}; it has {', '.join(names) or 'none'}"
                f"{did_you_mean(split, names)}"
            )
    chosen = SplitNames(train, validation, test)
    _refuse_look_alikes(spec, names, chosen)
    return _different(spec, chosen)


def _named(configured: str | None, usual: Sequence[str], names: Sequence[str], taken: Set[str | None]) -> str | None:
    """The split that a key gives; without the key, the first of the `usual` ones that is there and not `taken`."""
    if configured == NONE:
        return None
    return configured or next((name for name in usual if name in names and name not in taken), None)


def _refuse_look_alikes(spec: DataSpec, names: Sequence[str], chosen: SplitNames) -> None:
    """Refuse a set without a validation or test split that has one called like it."""
    used = [split.partition("[")[0] for split in (chosen.train, chosen.validation, chosen.test) if split]
    splits: dict[Role, str | None] = {"validation": chosen.validation, "test": chosen.test}
    for role, split in splits.items():
        like = [name for name in names if name not in used and role_of(name) == role]
        if split is None and like and getattr(spec, KEYS[role]) is None:
            raise DataError(
                f"data.{KEYS[role]}: {spec.source} has {some(map(repr, like))}, called like {role} but not read; "
                f"set data.{key_line(role, like[0])}, or data.{key_line(role, NONE)} to leave it out"
            )


def _different(spec: DataSpec, splits: SplitNames) -> SplitNames:
    for role, split, other in (
        ("validation", splits.validation, splits.train),
        ("test", splits.test, splits.train),
        ("test", splits.test, splits.validation),
    ):
        if split is not None and split == other:
            used = "train on" if other == splits.train else "validate on"
            way = "hold out a share of the training images" if role == "validation" else "use the set's own"
            raise DataError(
                f"data.{role}_split: {split!r} is also the split of {spec.source} to {used}; leave the key out to {way}"
            )
    return splits


def _two_splits(spec: DataSpec) -> SplitNames:
    """Check the words here, because timm opens the test split for every word but train, even a misspelt one."""
    words = dict.fromkeys(_TRAIN, "train") | dict.fromkeys((*_TEST, *_VALIDATION), "test")
    chosen: dict[Role, str | None] = {}
    configured = {role: getattr(spec, key) for role, key in KEYS.items()}
    for role, split in configured.items():
        if split not in (None, NONE) and split not in words:
            raise DataError(f"data.{KEYS[role]}: {spec.source} has no split {split!r}; it has train, test")
        chosen[role] = words.get(split or "")
    train, validation, test = chosen["train"] or "train", chosen["validation"], chosen["test"]
    if configured["test"] is None and "test" not in (train, validation):
        test = "test"
    return _different(spec, SplitNames(train, validation, test))


def _folder_splits(spec: DataSpec) -> SplitNames:
    root = Path(spec.root or "").expanduser()
    if not root.is_dir():
        raise DataError(f"data.root: {root} is not a folder")
    names = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if spec.train_split == HERE:
        return SplitNames("")  # the root itself holds the class folders
    if spec.train_split is None and not set(_TRAIN) & set(names):
        if {spec.validation_split, spec.test_split} - {None, NONE}:
            raise DataError(f"data.train_split: {root} has no folder 'train'; it has {', '.join(names) or 'none'}")
        _refuse_classes_like_splits(root, names)
        return SplitNames("")
    return _chosen(spec, names)


def _refuse_classes_like_splits(root: Path, names: Sequence[str]) -> None:
    like = [name for name in names if role_of(name) is not None]
    if not like:
        return
    moves = (
        f"mv {shlex.quote(str(root / name))} {shlex.quote(str(root / ALLOWED[role][0]))}"
        for name in like
        if (role := role_of(name)) is not None and name not in ALLOWED[role]
    )
    keys = {role: name for name in reversed(like) if (role := role_of(name)) is not None}
    named = ", ".join(key_line(role, keys[role]) for role in ROLES if role in keys)
    lines = [*moves, f"or, in the section task.data: {named}"] if "train" in keys else []
    lines.append(f"or, if every folder of {root} is a class: data.train_split: {HERE}")
    listed = "\n  ".join(lines)
    raise DataError(
        f"{root}: has no folder 'train', but folders called like splits: {some(map(repr, like))}\n  {listed}"
    )


def _tar_splits(root: Path) -> SplitNames:
    if root.is_file() and root.suffix == ".tar":
        return SplitNames("")
    if not root.is_dir():
        raise DataError(f"data.root: {root} is neither a .tar file nor a folder")
    names = [path.name for path in root.glob("*.tar")]
    files = {
        part: next((f"{word}.tar" for word in words if f"{word}.tar" in names), None)
        for part, words in (("train", _TRAIN), ("validation", _VALIDATION), ("test", _TEST))
    }
    if files["train"] is None:
        raise DataError(f"data.root: {root} has no train.tar; it has {', '.join(sorted(names)) or 'no .tar file'}")
    for name in sorted(set(names) - set(files.values())):
        role = role_of(name.removesuffix(".tar"))
        if role is not None:
            target = root / f"{ALLOWED[role][0]}.tar"
            way = f"mv {shlex.quote(str(root / name))} {shlex.quote(str(target))}"
            if files[role] is not None:
                way = f"{files[role]} has the {role} images; move {name} elsewhere"
            raise DataError(f"{root}: {name} is called like a {role} split and is not read: {way}")
    return SplitNames(files["train"], files["validation"], files["test"])


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
