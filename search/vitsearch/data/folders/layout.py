"""Which folders below a root are splits and which are classes. What may be either is an error with the lines to type.

- With `train_split` in the file, the folders in that folder are the classes, whatever they are called; `.` is the
  root itself.
- Otherwise ROOT/train makes ROOT/val (or ROOT/validation) and ROOT/test splits too, and a root without a folder that
  is called like a split holds the classes.
- A class may be called `train` if it holds images itself, as the classes beside it do, and any class may be called
  like a split if the validation folder has it too.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from vitsearch.data.folders.scan import SUFFIXES
from vitsearch.data.problems import some
from vitsearch.data.spec import DataSpec
from vitsearch.data.split_words import ALLOWED, HERE, KEYS, NONE, ROLES, Role, key_line, may_be_test, role_of
from vitsearch.errors import DataError, did_you_mean

_NAMES = "allowed names: " + "; ".join(" or ".join(ALLOWED[role]) for role in ROLES)


@dataclass(frozen=True)
class SplitFolders:
    """The folder of each split. `train` is the root itself when that holds the classes; `validation` is `None`
    when it is held out of `train`, `test` when there is none."""

    root: Path
    train: Path
    validation: Path | None = None
    test: Path | None = None

    @property
    def all(self) -> tuple[Path, ...]:
        return tuple(folder for folder in (self.train, self.validation, self.test) if folder is not None)

    def shown(self, folder: Path) -> str:
        """A folder as people call it: below the root."""
        return "ROOT itself" if folder == self.root else folder.relative_to(self.root).as_posix()


OF_THE_KERNEL = ("/proc", "/sys")
"""Their folders have no end: links in them lead to all that a machine has."""


def split_folders(spec: DataSpec) -> SplitFolders:
    """The folders of the splits of `spec.root`, by the keys of `spec` and by their names.

    Raises `DataError`, with the lines to type, for a layout that can be read in two ways.
    """
    root = Path(spec.root or "").expanduser()
    if not root.is_dir():
        raise DataError(f"data.root: {root} is not a folder")
    if any(root.resolve().is_relative_to(place) for place in OF_THE_KERNEL):
        raise DataError(f"data.root: {root} shows the state of the kernel; name the folder that holds your images")
    layout = _Layout(root, tuple(_folder_names(root)), {role: getattr(spec, key) for role, key in KEYS.items()})
    return layout.folders()


@dataclass(frozen=True)
class _Layout:
    """`names` are the folders of `root`; `configured` is what the keys say."""

    root: Path
    names: tuple[str, ...]
    configured: dict[Role, str | None]

    def folders(self) -> SplitFolders:
        if self._has_classes():
            return SplitFolders(self.root, self.root)
        train, validation, test = (self._folder(role) for role in ROLES)
        assert train is not None  # _has_classes refuses a root without it
        splits = SplitFolders(self.root, train, validation, test)
        self._refuse_shared(splits)
        self._refuse_look_alikes(splits)
        if self.configured["train"] is None:
            self._refuse_misplaced(train, validation)
        return splits

    def _has_classes(self) -> bool:
        """Whether the folders of the root are classes; otherwise there is a folder of training images."""
        if self.configured["train"] == HERE:
            for role in ROLES[1:]:
                if self.configured[role] not in (None, NONE):
                    raise DataError(
                        f"data.{KEYS[role]}: {self.configured[role]!r} cannot be a split while data.train_split is "
                        f"'{HERE}', which makes every folder of {self.root} a class"
                    )
            return True
        if self.configured["train"] is not None:
            return False
        is_open = not any(folder not in (None, NONE) for folder in self.configured.values())
        like = self._called_like_splits()
        if is_open and _are_classes(self.root, like, self.names):
            self._refuse_splits_in_classes()
            return True
        if "train" not in self.names:
            raise self._without_train(like)
        others = [name for name in self.names if role_of(name) is None and _Held.by(self.root / name).images]
        if is_open and others and like == ["train"]:
            raise self._undecided(others)
        return False

    def _called_like_splits(self) -> list[str]:
        return [name for name in self.names if role_of(name) is not None and name not in self.configured.values()]

    def _folder(self, role: Role) -> Path | None:
        configured = self.configured[role]
        if configured is None:
            taken = self.configured.values() if role != "train" else ()  # a taken train is refused, see _refuse_shared
            matches = [name for name in ALLOWED[role] if name in self.names and name not in taken]
            if len(matches) > 1:
                listed = " and ".join(map(repr, matches))
                keys = " or ".join(f"data.{key_line(role, name)}" for name in matches)
                raise DataError(f"{self.root}: has both {listed}; keep one, or set {keys}")
            return self.root / matches[0] if matches else None
        if configured == NONE and role != "train":
            return None
        path = PurePath(configured)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise DataError(f"data.{KEYS[role]}: {configured!r} is not a folder below data.root; {self._there()}")
        if not (self.root / configured).is_dir():
            near = did_you_mean(configured, self.names)
            raise DataError(f"data.{KEYS[role]}: {self.root} has no folder {configured!r}; {self._there()}{near}")
        return self.root / configured

    def _there(self) -> str:
        return f"it has {some(map(repr, self.names)) or 'no folder'}"

    def _refuse_shared(self, splits: SplitFolders) -> None:
        for folder in splits.all:
            for other in splits.all:
                if folder is not other and (folder == other or folder in other.parents):
                    raise DataError(
                        f"{self.root}: {splits.shown(other)!r} cannot be a split of its own, because "
                        f"{splits.shown(folder)!r} is one that contains it"
                    )

    def _refuse_look_alikes(self, splits: SplitFolders) -> None:
        read = {folder.relative_to(self.root).parts[0] for folder in splits.all}
        chosen = dict(zip(ROLES, (splits.train, splits.validation, splits.test), strict=True))
        lines = [
            self._way_out(name, role, chosen)
            for name in self.names
            if name not in read and (role := role_of(name)) is not None and self.configured[role] is None
        ]
        for name in _dead_links(self.root):
            if (role := role_of(name)) is not None and self.configured[role] is None:
                lines.append(f"{name!r}: a link to nothing")
        if lines:
            raise DataError(f"{self.root}: has folders that are called like splits and are not read; {_listed(lines)}")

    def _way_out(self, name: str, role: Role, chosen: dict[Role, Path | None]) -> str:
        """What to type for a folder `name` that is called like the split `role`."""
        taken = chosen[role]
        ways = [] if taken is not None else [self._move(name, role), f"or set data.{key_line(role, name)}"]
        if may_be_test(name) and chosen["test"] is None:
            ways.append(f"{'or, ' if ways else ''}if it has the test images, set data.{key_line('test', name)}")
        if taken is not None:
            kept = taken.relative_to(self.root).as_posix()
            ways.append(f"to leave it out and keep {kept!r}, set data.{key_line(role, kept)}")
        elif role != "train":
            ways.append(f"to leave it out, set data.{key_line(role, NONE)}")
        return f"{name!r}: {'; '.join(ways)}"

    def _move(self, name: str, role: Role) -> str:
        target = next((allowed for allowed in ALLOWED[role] if allowed not in self.names), ALLOWED[role][0])
        return _mv(self.root / name, self.root / target)

    def _without_train(self, like: Sequence[str]) -> DataError:
        """The error for a root with other splits, or with look-alikes, and without a folder train."""
        if not like:
            return DataError(f"{self.root}: has no folder 'train'; {self._there()}; set data.train_split")
        named = [(name, role) for name in like if (role := role_of(name)) is not None]
        trains = [name for name, role in named if role == "train"]
        wrong = [(name, role) for name, role in named if name not in ALLOWED[role]]
        lines = [self._move(name, role) for name, role in wrong if [other for _, other in wrong].count(role) == 1]
        if trains:
            keys = {role: name for name, role in reversed(wrong)}
            lines.append("or, without renaming, in the section task.data:")
            lines += (f"  {key_line(role, keys[role])}" for role in ROLES if role in keys)
            head = f"has {some(map(repr, like))}, called like splits, but no folder 'train'"
        else:
            head = f"has a folder {like[0]!r} but no folder 'train'"
            lines.append("put the folders of the classes into a folder 'train', or name it: data.train_split: FOLDER")
        lines += (f"or, if every folder of {self.root} is a class:", f"  train_split: {HERE}")
        return DataError(f"{self.root}: {head}; {_listed(lines)}")

    def _undecided(self, others: Sequence[str]) -> DataError:
        """The error for ROOT/train beside folders with images, of which neither validates nor tests."""
        lines = [
            "if 'train' has the training images: data.train_split: train",
            f"if 'train' is a class, as every folder there: data.train_split: {HERE}",
        ]
        seen = f"'train' may be a split or a class: beside it, {some(map(repr, others))} hold images"
        return DataError(f"{self.root}: {seen}; {_listed(lines)}")

    def _refuse_misplaced(self, train: Path, validation: Path | None) -> None:
        """Refuse classes of `train` that are called like splits."""
        names = _folder_names(train)
        shared = set(_folder_names(validation)) if validation is not None else set()
        like = [name for name in names if role_of(name) is not None and name not in shared]
        if _are_classes(train, like, names):
            return
        lines = []
        if any(role_of(name) == "train" for name in like):
            lines.append(f"if {train} holds all splits: data.root: {train}")
        for name in like:
            role = role_of(name)
            if role in ROLES[1:] and role is not None and not (self.root / ALLOWED[role][0]).exists():
                lines.append(f"if {name!r} is a split: {_mv(train / name, self.root / ALLOWED[role][0])}")
        shown = train.relative_to(self.root).as_posix()
        lines.append(f"if they are classes: data.{key_line('train', shown)}")
        raise DataError(f"{train}: has classes that are called like splits: {some(map(repr, like))}; {_listed(lines)}")

    def _refuse_splits_in_classes(self) -> None:
        """Refuse ROOT/CLASS/train beside ROOT/CLASS/val: all their images would be one split."""
        for name in self.names:
            inside = [folder for folder in _folder_names(self.root / name) if role_of(folder) is not None]
            if len({role_of(folder) for folder in inside}) > 1:
                split = self.root / ALLOWED[role_of(inside[0]) or "train"][0]
                lines = [
                    f"one after the other: mkdir -p {shlex.quote(str(split))}; "
                    + _mv(self.root / name / inside[0], split / name),
                    f"or, if these folders mean nothing: data.train_split: {HERE}",
                ]
                seen = some(f"{name}/{folder}" for folder in inside)
                raise DataError(f"{self.root}: has splits inside a class: {seen}; {_listed(lines)}")


@dataclass(frozen=True)
class _Held:
    """What a folder itself holds."""

    images: bool
    folders: bool

    @classmethod
    def by(cls, folder: Path) -> _Held:
        images = folders = False
        for entry in _entries(folder):
            if _is_folder(entry):
                folders = True
            elif os.path.splitext(entry.name)[1].lower() in SUFFIXES:
                images = True
            if images and folders:
                break
        return cls(images, folders)


def _are_classes(folder: Path, like: Sequence[str], names: Sequence[str]) -> bool:
    """Whether those of the `names` that are called `like` splits can only be classes."""
    if not like:
        return True
    others = [name for name in names if name not in like]
    return all(role_of(name) == "train" and _Held.by(folder / name) == _Held(True, False) for name in like) and any(
        _Held.by(folder / name).images for name in others
    )


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """What a folder holds, without hidden files; nothing of a folder that cannot be read, which the scan reports."""
    try:
        with os.scandir(folder) as entries:
            yield from (entry for entry in entries if not entry.name.startswith("."))
    except OSError:
        return


def _folder_names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in _entries(folder) if _is_folder(entry))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle
        return False


def _dead_links(folder: Path) -> list[str]:
    return sorted(e.name for e in _entries(folder) if e.is_symlink() and not os.path.exists(e.path))


def _mv(start: Path, end: Path) -> str:
    return f"mv {shlex.quote(str(start))} {shlex.quote(str(end))}"


def _listed(lines: Sequence[str]) -> str:
    return "\n  ".join([_NAMES, *lines])
