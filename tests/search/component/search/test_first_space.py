"""The first space file of a user: valid for every board and goal, with what is the user's."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from PIL import Image

from vitsearch.core.image_size import ImageSize
from vitsearch.errors import DataError, SpaceError, UnknownName
from vitsearch.search import first_space
from vitsearch.search.check import check_space
from vitsearch.search.first_space import BOARDS, GOALS, HERE, meters, write, write_example

COUNTS = {"ok": 40, "scratch": 20, "local": 15}
METRICS = {"latency": {"latency_ms_p50", "cpu_ms_p50"}, "energy": {"energy_mj"}, "size": {"size_mb"}}


def photos(folder, counts):
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            colour = (number, len(name), count)
            Image.new("RGB", (40, 30), colour).save(folder / name / f"{number}.png")
    return folder


def masked(root, size):
    """Images of `size` with masks of two classes."""
    for split, count in (("train", 20), ("val", 4)):
        for folder, mode in (("images", "RGB"), ("masks", "L")):
            (root / split / folder).mkdir(parents=True)
            for number in range(count):
                height, width = size
                colour = (number, len(split), 0) if mode == "RGB" else number % 2
                Image.new(mode, (width, height), colour).save(root / split / folder / f"{number}.png")
    (root / "classes.txt").write_text("road\ncar\n")
    return str(root)


@pytest.fixture
def streets(tmp_path):
    return masked(tmp_path / "streets", (48, 64))


@pytest.fixture
def data(tmp_path):
    return str(photos(tmp_path / "photos", COUNTS))


@pytest.mark.parametrize(
    ("board", "goal"), [(board, goal) for board in BOARDS for goal in GOALS if goal != "energy" or meters(board)]
)
def test_a_file_for_every_board_and_goal_is_valid(data, tmp_path, board, goal):
    write(tmp_path / "parts.yaml", board, data, goal)
    space = check_space(tmp_path / "parts.yaml").require().space
    assert (space.study, space.task.data.root) == ("parts", data)
    ((name, other),) = [(name, word) for name, word in space.objectives.items() if name != "accuracy"]
    assert name in METRICS[goal]
    assert (space.objectives["accuracy"], other) == ("maximize", "minimize")


@pytest.mark.parametrize("board", BOARDS)
def test_a_folder_with_masks_makes_a_segmentation_of_images_in_their_shape(streets, tmp_path, board):
    write(tmp_path / "streets.yaml", board, streets, "latency")
    checked = check_space(tmp_path / "streets.yaml").require()
    space = checked.space
    assert (space.task.kind, space.task.data.labels) == ("segmentation", "masks")
    assert (space.objectives["mean_iou"], space.limits["mean_iou"].max_drop) == ("maximize", 0.02)
    assert "accuracy" not in {*space.objectives, *space.limits}
    assert set(space.space.resolution) == {ImageSize(192, 256)}
    assert not [warning for warning in checked.warnings if "shape" in warning]


def test_wide_images_keep_the_resolutions_of_their_shape(tmp_path):
    streets = masked(tmp_path / "wide", (64, 128))
    write(tmp_path / "streets.yaml", HERE, streets, "size")
    space = check_space(tmp_path / "streets.yaml").require().space
    assert space.space.resolution == (ImageSize(128, 256), ImageSize(160, 320))
    assert list(space.objectives) == ["mean_iou", "size_mb"]


def test_masks_with_problems_are_named_and_nothing_is_written(streets, tmp_path):
    (tmp_path / "streets" / "train" / "masks" / "0.png").unlink()
    with pytest.raises(DataError, match=r"images/0.png(.|\n)*streets.yaml was not written: mend the data"):
        write(tmp_path / "streets.yaml", HERE, streets, "latency")
    assert not (tmp_path / "streets.yaml").exists()


@pytest.mark.parametrize("board", BOARDS)
def test_the_comments_name_the_file_of_the_user(data, tmp_path, monkeypatch, board):
    monkeypatch.chdir(tmp_path)
    write(Path("parts.yaml"), board, data, "latency")
    text = Path("parts.yaml").read_text()
    assert "vitsearch check parts.yaml" in text
    assert "spaces/" not in text
    assert "task.data.root=PATH" not in text
    assert text.count("\n#") + text.count("  #") > 5, "a person can read why each key is there"


def test_unequal_classes_are_weighed(tmp_path):
    data = photos(tmp_path / "photos", {"ok": 40, "scratch": 12})
    write(tmp_path / "parts.yaml", HERE, str(data), "latency")
    assert "class_weights: balanced" in (tmp_path / "parts.yaml").read_text()


def test_equal_classes_are_not_weighed(data, tmp_path):
    write(tmp_path / "parts.yaml", HERE, data, "latency")
    assert "class_weights" not in (tmp_path / "parts.yaml").read_text()


def test_without_openvino_a_file_for_here_asks_for_none(data, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    write(tmp_path / "parts.yaml", HERE, data, "latency")
    assert check_space(tmp_path / "parts.yaml").require().space.space.backend == ("onnxruntime",)


def test_data_that_needs_another_line_says_which_and_where_to_write_it(tmp_path):
    photos(tmp_path / "photos" / "Train", COUNTS)
    photos(tmp_path / "photos" / "Valid", COUNTS)
    with pytest.raises(DataError, match=r"train_split: Train(.|\n)*parts.yaml --example intel_cpu"):
        write(tmp_path / "parts.yaml", HERE, str(tmp_path / "photos"), "latency")
    assert not (tmp_path / "parts.yaml").exists()


def test_a_file_that_is_there_stays(data, tmp_path):
    (tmp_path / "parts.yaml").write_text("mine")
    with pytest.raises(SpaceError, match="is there already, and is not replaced; name another file"):
        write(tmp_path / "parts.yaml", HERE, data, "latency")
    assert (tmp_path / "parts.yaml").read_text() == "mine"


def test_a_board_without_a_meter_has_no_energy(data, tmp_path):
    with pytest.raises(SpaceError, match="iPhone.* reports no energy; allowed: latency, size"):
        write(tmp_path / "parts.yaml", "iphone", data, "energy")


@pytest.mark.parametrize(("board", "goal", "near"), [("jetson", "latency", "jetson_nano"), (HERE, "latncy", "latency")])
def test_an_unknown_word_names_the_nearest(data, tmp_path, board, goal, near):
    with pytest.raises(UnknownName, match=near):
        write(tmp_path / "parts.yaml", board, data, goal)
    assert not (tmp_path / "parts.yaml").exists()


def test_each_board_of_the_list_has_its_space_file():
    assert {board.file for board in BOARDS.values()} == set(first_space.shipped_spaces.names()) - {
        "quickstart",
        "segmentation",
        "everything",
        "cnns_and_vits",
        "embedding",
    }


@pytest.mark.parametrize("name", first_space.shipped_spaces.names())
def test_an_example_is_written_as_it_is(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write_example(Path("mine.yaml"), name)
    text = Path("mine.yaml").read_text()
    assert "schema.json" not in text
    assert f"study: {name}" in text
    with pytest.raises(SpaceError, match="is there already"):
        write_example(Path("mine.yaml"), name)


def test_a_place_that_cannot_be_written_is_one_line(data, tmp_path):
    (tmp_path / "file").write_text("a file")
    with pytest.raises(SpaceError, match="cannot be written: (Not a directory|File exists)"):
        write(tmp_path / "file" / "parts.yaml", HERE, data, "latency")
