"""The sources of labelled images: their names, and the keys of `task.data` that each one uses.

Both `vitsearch.space` and `vitsearch.data` use this module, so it imports nothing heavy.
"""

from __future__ import annotations

import re

from vitsearch.errors import did_you_mean

SOURCES = ("builtin:fashion-mnist-14k", "builtin:fashion-mnist", "builtin:fashion-mosaic", "folder", "tar")
TORCH_NAMES = (
    "cifar10", "cifar100", "fashion_mnist", "folder", "image_folder", "imagenet", "inat", "inaturalist",
    "kmnist", "mnist", "places365", "qmnist",
)  # fmt: skip
"""The names that timm's `create_dataset` accepts after `torch/`."""
SOURCE_PATTERN = "^(torch|hfds|wds)/."
ALLOWED_SOURCES = f"{', '.join(SOURCES)}, torch/NAME, hfds/NAME_OR_FOLDER, wds/NAME"

_IMAGES = ("image_size", "channels", "validation_share")
_SPLITS = ("train_split", "validation_split", "test_split")
_KEYS = {
    "builtin:fashion-mnist-14k": (),
    "builtin:fashion-mnist": ("root",),
    "builtin:fashion-mosaic": (),
    "folder": ("root", *_IMAGES, *_SPLITS, "labels", "group"),
    "tar": ("root", *_IMAGES),
    "torch": ("root", *_IMAGES, *_SPLITS, "download"),
    "hfds": ("root", *_IMAGES, *_SPLITS, "download", "input_key", "target_key", "class_names"),
    "wds": ("root", *_IMAGES, *_SPLITS, "input_key", "target_key", "class_names"),
}
LABELS = ("folders", "masks", "none")
"""Where the labels of images in folders are from: their folders, masks beside them, or nowhere."""
UNLABELLED = "(no labels)"
"""What stands for the class of images without labels."""
_ROOTS = {
    "folder": "the folder of the images",
    "tar": "a .tar file, or the folder of train.tar",
    "torch": "the folder in which torchvision stores the data set",
    "wds": "the folder of _info.json and the shards",
}


def kind_of(source: str) -> str:
    """The kind of a source: `hfds` for `hfds/NAME`; a source without a name is its own kind."""
    return source if source in SOURCES else source.partition("/")[0]


def source_problem(source: str) -> str | None:
    """Why `source` is not valid, or `None` when it is."""
    kind, _, name = source.partition("/")
    if source in SOURCES or (kind in ("hfds", "wds") and name):
        return None
    if kind == "torch" and name:
        near = did_you_mean(name, TORCH_NAMES)
        return None if name in TORCH_NAMES else f"torch/ has no {name!r}; allowed: {', '.join(TORCH_NAMES)}{near}"
    if kind in ("hfids", "tfds"):
        return f"{kind}/ is not supported; use hfds/ for Hugging Face sets and parquet files, wds/ for tar shards"
    near = did_you_mean(source, SOURCES)
    return f"{source!r} is not a valid source; allowed: {ALLOWED_SOURCES}{near}"


def group_column(rule: str) -> tuple[str, str] | None:
    """The file and the column that a rule for groups names as FILE.csv:COLUMN, or `None` for a regex."""
    match = re.fullmatch(r"([^:]+\.csv):(.+)", rule, re.IGNORECASE)
    return None if match is None else (match[1], match[2])


def group_problem(rule: str) -> str | None:
    """Why a regex cannot name the groups of images, or `None` when it can, or when a column of a file does."""
    try:
        re.compile("" if group_column(rule) else rule)
    except (re.error, OverflowError) as error:
        return (
            f"{rule!r} is not a regular expression ({error}); allowed: what Python's re.search takes, or "
            "FILE.csv:COLUMN"
        )
    return None


def unfitting_keys(source: str) -> tuple[str, ...]:
    """The keys of `task.data` that have no effect with `source`."""
    every = dict.fromkeys(key for keys in _KEYS.values() for key in keys)
    return tuple(key for key in every if key not in _KEYS[kind_of(source)])


def kinds_with(key: str) -> tuple[str, ...]:
    """The kinds of sources that use a key of `task.data`."""
    return tuple(kind for kind, keys in _KEYS.items() if key in keys)


def has_masks(source: str, labels: str) -> bool:
    """Whether the label of an image is a mask.

    Args:
        source: `task.data.source`.
        labels: `task.data.labels`.

    Returns:
        Whether it is the class of each pixel instead of one class.
    """
    return source == "builtin:fashion-mosaic" or labels == "masks"


def missing_root(source: str) -> str | None:
    """The message for a missing `root` when `source` needs one, otherwise `None`."""
    needed = _ROOTS.get(kind_of(source))
    return f"is missing; 'source: {source}' needs {needed}" if needed else None
