"""The first space file of a user: one of those that come with vitsearch, for their board, with their data and goal.

What is measured on a board, and what runs there, stands in `spaces/`; this only fills in what is the user's.
"""

from __future__ import annotations

import io
import math
import os
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from vitsearch.backbones.catalogue import Catalogue
from vitsearch.core import study_name
from vitsearch.core.image_size import ImageSize, smallest_enclosing
from vitsearch.core.precisions import supports
from vitsearch.core.targets import default_runtime
from vitsearch.data.folders.masked import is_masked, survey_masked
from vitsearch.data.review import MOST_UNEQUAL, Review, review
from vitsearch.data.spec import DataSpec
from vitsearch.devices import descriptions
from vitsearch.errors import DataError, NetworkError, SpaceError, UnknownName
from vitsearch.search.check.machine import runtime_here
from vitsearch.space import shipped_spaces
from vitsearch.tasks.segmentation.task import SEGMENTATION

HERE = "here"
GOALS = ("latency", "energy", "size")
STEP = 32
"""Pixels; sides that are multiples of it suit all backbones of `spaces/`."""
_METRICS = {"latency": "latency_ms_p50", "energy": "energy_mj", "size": "size_mb"}


@dataclass(frozen=True)
class Board:
    """A device that a space file comes for; `file` is in `spaces/`."""

    file: str
    about: str


BOARDS = {
    HERE: Board("intel_cpu", "this computer: onnxruntime, and OpenVINO where it is installed"),
    "intel_cpu": Board("intel_cpu", "another PC: onnxruntime and OpenVINO"),
    "jetson_nano": Board("jetson_nano", "Jetson Nano: TensorRT 8.2, onnxruntime"),
    "jetson_orin_nano": Board("jetson_orin_nano", "Jetson Orin Nano: TensorRT 10"),
    "raspberry_pi5": Board("raspberry_pi5", "Raspberry Pi 5: onnxruntime, LiteRT, ExecuTorch"),
    "android": Board("android", "Android phone: LiteRT on CPU and GPU, through adb"),
    "iphone": Board("iphone", "iPhone: Core ML, measured on a Mac with Apple silicon"),
}


@dataclass(frozen=True)
class FirstSpace:
    """What was written."""

    file: Path
    board: str
    has_masks: bool
    review: Review

    def describe(self) -> str:
        """What it is for, and what to type next."""
        lines = [f"{self.file} is a space file for {BOARDS[self.board].about}."]
        layout = self.review.layout
        classes = f", {len(layout.class_names)} classes" if layout else ""
        masks = " with masks" if self.has_masks else ""
        lines.append(f"Data: {self.review.estimate.images:,} images{masks}{classes}.")
        lines += ["Next:", f"  vitsearch check {self.file}", f"  vitsearch run {self.file}"]
        if self.board != HERE:
            lines[-1:-1] = [
                f"  vitsearch check {self.file} --as {BOARDS[self.board].file}   (judges it without the board)"
            ]
        return "\n".join(lines)


@dataclass(frozen=True)
class _Data:
    """The folder as the user wrote it, the resolutions that go with it, and its review."""

    root: str
    has_masks: bool
    resolutions: list[ImageSize]
    review: Review

    @property
    def is_unequal(self) -> bool:
        """Whether an accuracy would hide the smallest class: the limit is that of the warning of `check`."""
        if self.has_masks or self.review.layout is None:
            return False
        counts = self.review.layout.splits["train"].counts
        return max(counts) > MOST_UNEQUAL * min(counts)


def write(file: Path, board: str, data: str, goal: str) -> FirstSpace:
    """Write a space file, and look at the data for it.

    Args:
        file: Where; a file that is there is not replaced.
        board: One of `BOARDS`.
        data: The root of a folder of images; with masks beside them it is a segmentation.
        goal: What is minimized beside the accuracy, one of `GOALS`.

    Raises:
        SpaceError: The file exists, or the board does not report what the goal needs.
        DataError: With all problems of the data, and what to do. Nothing is written.
        UnknownName: There is no such board or goal.
    """
    if board not in BOARDS:
        raise UnknownName("board", board, list(BOARDS))
    if goal not in GOALS:
        raise UnknownName("goal", goal, list(GOALS))
    if goal == "energy" and not meters(board):
        allowed = ", ".join(name for name in GOALS if name != "energy")
        raise SpaceError("--goal energy", [f"{BOARDS[board].about}: reports no energy; allowed: {allowed}"])
    _refuse_existing(file)
    try:
        seen = _look(data, shipped_spaces.text(BOARDS[board].file))
    except DataError as error:
        raise DataError(f"{error}\n{_nothing_written(file, board, str(error))}") from error
    _write(file, _filled(_Wishes(file, board, goal, seen)))
    return FirstSpace(file, board, seen.has_masks, seen.review)


def meters(board: str) -> bool:
    """Whether a board reports energy, by its description; of this computer nothing is known here."""
    return board != HERE and descriptions.find(board).info.power_meter is not None


def write_example(file: Path, name: str) -> None:
    """Write a space file that comes with vitsearch, as it is.

    Raises `SpaceError` where the file exists, and `UnknownName`.
    """
    text = shipped_spaces.text(name)
    _refuse_existing(file)
    _write(file, text.replace(f"spaces/{name}.yaml", str(file)).split("\n#\n", 1)[1])


def _refuse_existing(file: Path) -> None:
    if os.path.lexists(file):
        raise SpaceError(str(file), ["is there already, and is not replaced; name another file"])


def _write(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("x") as stream:
            stream.write(text)
    except OSError as error:
        raise SpaceError(str(file), [f"cannot be written: {error.strerror}"]) from error


def _look(root: str, text: str) -> _Data:
    """What `check` sees in the data, in the size of the largest model of a space file."""
    sizes = [ImageSize.of(value) for value in yaml.safe_load(text)["space"]["resolution"]]
    spec = DataSpec("folder", root=str(Path(root).expanduser()), image_size=smallest_enclosing(sizes))
    masked = is_masked(Path(spec.root or ""))
    if masked:
        spec = replace(spec, labels="masks")
        sizes = _in_shape_of(_usual_size(spec), sizes)
    return _Data(root, masked, sizes, review(replace(spec, image_size=smallest_enclosing(sizes))))


def _nothing_written(file: Path, board: str, problems: str) -> str:
    """What to do about data with problems, which may name keys that mend them."""
    mend = f"{file} was not written: mend the data and type the command again"
    if not re.search(r"\bdata\.[a-z_]{4,}|\btask\.data\b", problems):  # a folder may be called data
        return mend
    return (
        f"{mend}. To write the lines for task.data that are named above: vitsearch init {file} --example "
        f"{BOARDS[board].file}, and write them and the root into it"
    )


def _usual_size(spec: DataSpec) -> ImageSize:
    """The size of most of the training images of a folder with masks."""
    files = survey_masked(spec, None).train.images.files
    return Counter(ImageSize(file.height, file.width) for file in files).most_common(1)[0][0]


def _in_shape_of(image: ImageSize, sizes: list[ImageSize]) -> list[ImageSize]:
    """Sizes of as many pixels in the shape of an image, in whole steps of every backbone. A map is of the whole image,
    so all have the shape of the largest."""
    tall = math.sqrt(image.height / image.width)
    shaped = [
        ImageSize(*(max(STEP, STEP * round(side / STEP)) for side in (size.side * tall, size.side / tall)))
        for size in sizes
    ]
    return sorted({size for size in shaped if size.has_shape_of(max(shaped))})


@dataclass(frozen=True)
class _Wishes:
    file: Path
    board: str
    goal: str
    data: _Data


def _drop_what_is_not_here(knobs: dict[str, Any]) -> None:
    """Drop the runtimes that this computer lacks, and the precisions that no other one has."""
    always = default_runtime()  # vitsearch itself needs it
    here = [runtime for runtime in knobs["backend"] if runtime == always or runtime_here(runtime).works]
    if here == knobs["backend"]:
        return
    knobs["backend"] = here
    for precision in list(knobs["quantization"]):
        if all(supports(runtime, precision) is not None for runtime in here):
            knobs["quantization"].remove(precision)


def _filled(wishes: _Wishes) -> str:
    """The space file of the board with what is the user's. Comments and order stay, so that it can be read."""
    from ruamel.yaml import YAML  # which keeps comments, unlike the reader of all other commands

    name = BOARDS[wishes.board].file
    head, body = shipped_spaces.text(name).split("\n\n", 1)
    editor = YAML()
    editor.width = 120
    editor.indent(mapping=2, sequence=4, offset=2)
    tree = editor.load(body)
    tree["study"] = study_name.suggested(wishes.file.stem)
    tree["task"]["data"]["root"] = wishes.data.root
    if wishes.data.is_unequal:
        tree["task"]["base"]["class_weights"] = "balanced"
    _set_objectives(tree, wishes)
    if wishes.data.has_masks:
        _set_segmentation(tree, wishes.data.resolutions)
    if wishes.board == HERE:
        _drop_what_is_not_here(tree["space"])
    stream = io.StringIO()
    editor.dump(tree, stream)
    comment = head.split("\n", 2)[2]  # behind the line for editors, whose schema is in the repository
    comment = comment.replace(f"spaces/{name}.yaml", str(wishes.file)).replace(" task.data.root=PATH", "")
    return f"{comment}\n\n{_with_gaps(stream.getvalue())}"


def _with_gaps(text: str) -> str:
    """A blank line before each section: the one of a section whose last key was replaced went with it."""
    lines: list[str] = []
    for line in text.splitlines():
        if line[:1].isalpha() and lines and lines[-1] and not lines[-1].startswith("#"):
            lines.append("")
        lines.append(line)
    return "\n".join(lines) + "\n"


def _set_objectives(tree: Any, wishes: _Wishes) -> None:
    """What is minimized beside the accuracy. What a file limits stays, but for what is an objective now."""
    metric = _METRICS[wishes.goal]
    if wishes.goal == "latency" and wishes.board in (HERE, "intel_cpu"):
        metric = "cpu_ms_p50"  # training and measuring share the machine
    for name in [name for name in tree["objectives"] if name not in ("accuracy", metric)]:
        del tree["objectives"][name]
    tree["objectives"][metric] = "minimize"
    tree["limits"].pop(metric, None)


def _set_segmentation(tree: Any, resolutions: list[ImageSize]) -> None:
    """A class for each pixel: `mean_iou` instead of the accuracy, backbones that give a map, all tokens, and their own
    windows, because those of the files divide the maps of squares."""
    tree["task"].insert(0, "kind", "segmentation")
    data = tree["task"]["data"]
    data["labels"] = "masks"
    data.ca.items.pop("root", None)  # the comment says how folders of classes look
    for section in (tree["objectives"], tree["limits"]):
        section.insert(0, "mean_iou", section.pop("accuracy"))
    space, catalogue = tree["space"], Catalogue({}, {}).for_task(SEGMENTATION)
    for knob in ("token_pruning_ratio", "token_pruning_method", "window_size"):
        space.pop(knob, None)
    for name in list(space["backbone"]):
        try:
            catalogue.supports(name, "resolution", resolutions[0])
        except NetworkError:
            space["backbone"].remove(name)
    space["resolution"][:] = [size.to_json() for size in resolutions]
    tree["baseline"]["resolution"] = resolutions[-1].to_json()
