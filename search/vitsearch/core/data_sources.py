"""Where labelled images come from: the names of sources, and which keys of ``task.data`` each understands.

Space files and :mod:`vitsearch.data` both read this; it imports nothing heavy.
"""

from __future__ import annotations

from vitsearch.errors import did_you_mean

SOURCES = ("builtin:fashion-mnist-14k", "builtin:fashion-mnist", "folder", "tar")
TORCH_NAMES = (
    "cifar10", "cifar100", "fashion_mnist", "folder", "image_folder", "imagenet", "inat", "inaturalist",
    "kmnist", "mnist", "places365", "qmnist",
)  # fmt: skip
"""What timm's ``create_dataset`` knows behind ``torch/``."""
SOURCE_PATTERN = "^(torch|hfds|wds)/."
ALLOWED_SOURCES = f"{', '.join(SOURCES)}, torch/NAME, hfds/NAME_OR_FOLDER, wds/NAME"

_IMAGES = ("image_size", "channels", "validation_share")
_SPLITS = ("train_split", "validation_split")
_KEYS = {
    "builtin:fashion-mnist-14k": (),
    "builtin:fashion-mnist": ("root",),
    "folder": ("root", *_IMAGES),
    "tar": ("root", *_IMAGES),
    "torch": ("root", *_IMAGES, *_SPLITS, "download"),
    "hfds": ("root", *_IMAGES, *_SPLITS, "download", "input_key", "target_key", "class_names"),
    "wds": ("root", *_IMAGES, *_SPLITS, "input_key", "target_key", "class_names"),
}
_ROOTS = {
    "folder": "the folder of the images",
    "tar": "a .tar file, or the folder of train.tar",
    "torch": "the folder that torchvision keeps the set in",
    "wds": "the folder of _info.json and the shards",
}


def kind_of(source: str) -> str:
    """``hfds`` of ``hfds/NAME``; a source without a name is its own kind."""
    return source if source in SOURCES else source.partition("/")[0]


def source_problem(source: str) -> str | None:
    """What is wrong with the name of a source, or ``None``."""
    kind, _, name = source.partition("/")
    if source in SOURCES or (kind in ("hfds", "wds") and name):
        return None
    if kind == "torch" and name:
        near = did_you_mean(name, TORCH_NAMES)
        return None if name in TORCH_NAMES else f"torch/ has no {name!r}; allowed: {', '.join(TORCH_NAMES)}{near}"
    if kind in ("hfids", "tfds"):
        return f"{kind}/ is not supported; hfds/ reads Hugging Face sets and parquet files, wds/ tar shards"
    near = did_you_mean(source, SOURCES)
    return f"{source!r} is not a valid source; allowed: {ALLOWED_SOURCES}{near}"


def unfitting_keys(source: str) -> tuple[str, ...]:
    """The keys of :class:`DataSpec` that have no meaning with ``source``."""
    every = dict.fromkeys(key for keys in _KEYS.values() for key in keys)
    return tuple(key for key in every if key not in _KEYS[kind_of(source)])


def missing_root(source: str) -> str | None:
    """What ``root`` has to be where ``source`` cannot do without one."""
    needed = _ROOTS.get(kind_of(source))
    return f"is missing; 'source: {source}' needs {needed}" if needed else None
