"""Which names are those of splits, and which only look like them.

A folder `Train` or `valid` is never taken for a split, nor for a class: whoever finds such a name asks.
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Literal, get_args

Role = Literal["train", "validation", "test"]
ROLES: tuple[Role, ...] = get_args(Role)
ALLOWED: dict[Role, tuple[str, ...]] = {"train": ("train",), "validation": ("val", "validation"), "test": ("test",)}
"""The names of the folders of a split that need no key, the usual one first."""
KEYS: dict[Role, str] = {"train": "train_split", "validation": "validation_split", "test": "test_split"}
"""The keys of `task.data` that name a split."""
NONE = "none"
"""The value of such a key for data without that split."""
HERE = "."
"""The value of `train_split` for a root whose folders are the classes, whatever they are called."""

_WORDS: dict[Role, str] = {
    "train": "train|training|trn",
    "validation": "val|vali|valid|validate|validating|validation|dev|devel|development|eval|evaluate|evaluation"
    "|holdout|heldout",
    "test": "test|tests|testing|tst",
}
_BESIDE = "data|dataset|folder|image|images|img|imgs|part|photo|photos|picture|pictures|set|split|splits"
_LIKE = {role: re.compile(rf"(?:{_BESIDE})?(?:{words})(?:{_BESIDE})?\d*") for role, words in _WORDS.items()}
_EITHER = re.compile(r"(dev|eval|hold|held)")


def role_of(name: str) -> Role | None:
    """The split that `name` is called like, in any case and with any of the words and numbers that people add
    (`Train`, `val_set`, `testing`, `train2017`); `None` for other names."""
    letters = re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", name).casefold())
    return next((role for role, pattern in _LIKE.items() if pattern.fullmatch(letters)), None)


def may_be_test(name: str) -> bool:
    """Whether people also call the test images so: `dev`, `eval`, `holdout`."""
    return role_of(name) == "validation" and _EITHER.search(name.casefold()) is not None


def key_line(role: Role, value: str) -> str:
    """The line of the section `task.data` that names a split."""
    is_word = value in (HERE, NONE) or role_of(value) is not None  # others may be numbers or true to YAML
    plain = is_word and re.fullmatch(r"[\w.][\w. -]*", value) and value == value.strip()
    return f"{KEYS[role]}: {value if plain else json.dumps(value, ensure_ascii=False)}"
