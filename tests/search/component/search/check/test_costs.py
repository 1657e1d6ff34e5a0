"""What a search will cost, before it starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import SPACE_FILES
from vitsearch.core.image_size import ImageSize
from vitsearch.core.stage import Stage
from vitsearch.search.check import check_space, costs, space_costs
from vitsearch.search.check.stage_seconds import wall_seconds
from vitsearch.storage.ledger import Ledger
from vitsearch.storage.stage_cost import StageCost

SMALL = Path(SPACE_FILES, "small.yaml")


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    """Only the extremes are counted, and one backbone is timed."""
    monkeypatch.setattr(costs, "COUNTING_S", 0.0)
    monkeypatch.setattr(costs, "TIMING_S", 0.0)
    monkeypatch.chdir(tmp_path)


def found(*overrides):
    return space_costs(check_space(SMALL, overrides).require())


@pytest.mark.long
def test_the_largest_model_of_a_space_is_the_unpruned_one():
    models = found("space.backbone=vit_fmnist_p4").models
    assert models.params_m.high == pytest.approx(2.684554)
    assert models.macs_m.high == pytest.approx(138.622848)
    assert models.params_m.low < models.params_m.high
    assert models.macs_m.low < models.macs_m.high
    assert models.counted == 2


@pytest.mark.parametrize(
    ("backbone", "precision", "measured_mb"),
    [  # the files of a recorded quickstart
        ("vit_fmnist_p4", "int8_ptq", 2.851),
        ("efficientvit_fmnist", "int8_ptq", 1.590),
        ("mobilevit_fmnist", "int8_ptq", 2.469),
        ("mobilevit_fmnist", "fp32", 3.893),
        ("efficientvit_fmnist", "bf16", 1.880),
    ],
)
@pytest.mark.long
def test_the_size_is_that_of_the_weights_of_the_file(backbone, precision, measured_mb):
    """A file also has its graph, of .02 MB in ONNX and .2 MB in OpenVINO's form."""
    chosen = [f"space.backbone={backbone}", f"space.quantization={precision}"]
    if precision == "bf16":
        chosen.append("space.backend=openvino")
    if precision == "int8_ptq" and backbone != "vit_fmnist_p4":  # whose layers are all linear
        chosen.append("space.quantized_ops=linear")
    models = found(*chosen).models
    assert 0.84 * measured_mb < models.size_mb.high < measured_mb


@pytest.mark.long
def test_the_smallest_size_is_that_of_the_smallest_precision():
    both = found("space.backbone=vit_fmnist_p4", "space.quantization=[fp32, int8_ptq]").models.size_mb
    assert both.high == found("space.backbone=vit_fmnist_p4", "space.quantization=fp32").models.size_mb.high
    assert both.low == found("space.backbone=vit_fmnist_p4", "space.quantization=int8_ptq").models.size_mb.low


@pytest.mark.parametrize(
    ("limit", "line"),
    [
        (
            "limits.params_m={max: 0.001}",
            "limits.params_m: no model can meet params_m <= 0.001: the smallest",
        ),
        ("limits.macs_m={max_ratio: 0.0001}", "limits.macs_m: no model can meet macs_m <= 0.01386: the smallest"),
    ],
)
def test_a_limit_that_no_model_can_meet_is_said(limit, line):
    (said,) = found("space.backbone=vit_fmnist_p4", limit).unmeetable
    assert said.startswith(line)


def test_a_limit_that_some_model_can_meet_is_not():
    assert found("space.backbone=vit_fmnist_p4", "limits.params_m={max: 2.0}").unmeetable == ()


def test_the_time_has_its_basis():
    time = found("space.backbone=vit_fmnist_p4", "search.trials=10", "search.candidates=3").time
    assert time.trainings == 10
    assert time.screened.low < time.screened.high
    assert 0 < time.trainers_s.low <= time.trainers_s.high
    assert 0 < time.device_s.low <= time.device_s.high
    assert "unpruned models, timed here just now" in time.basis[0]
    assert "means of the quickstart on 2 cores; larger models take longer" in time.basis[-1]


def test_files_that_take_long_to_lower_are_part_of_the_time():
    overrides = ("space.backbone=vit_fmnist_p4", "space.quantization=fp32", "search.trials=4")
    both = found(*overrides, "space.backend=[onnxruntime,executorch]").time
    assert "1 to 9 files for executorch, each 8 to 110 CPU-seconds to lower" in both.basis[-1]
    alone = found(*overrides, "space.backend=executorch").time
    assert alone.trainers_s.low > both.trainers_s.low, "all candidates are lowered"
    assert not any("to lower" in line for line in found(*overrides).time.basis)


def test_bases_of_random_weights_are_part_of_the_time():
    random = found("space.backbone={name: resnet10t, weights: none}", "baseline.backbone=resnet10t")
    assert any("training the unpruned models on your classes" in line for line in random.time.basis)
    finished = found("space.backbone=vit_fmnist_p4")
    assert not any("training the unpruned models" in line for line in finished.time.basis)


@pytest.mark.parametrize(
    ("each_trainer_s", "device_s", "wall_s"),
    [(197, 374, 494), (259, 457, 604), (188, 328, 424), (330 / 2, 378, 457), (7288 / 2, 457, 4026)],
)
def test_the_wall_time_is_near_that_of_recorded_runs(each_trainer_s, device_s, wall_s):
    assert wall_seconds(each_trainer_s, device_s) == pytest.approx(wall_s, rel=0.05)


def test_the_estimate_for_the_quickstart_holds_what_recorded_runs_took(monkeypatch):
    """In seconds, with two trainers: 284 of both, 240 of the device, 316 in all. 8.5 s of training a plan."""
    monkeypatch.setattr(costs, "_per_image", lambda *arguments: [("efficientvit_fmnist", 34.0 / 4096)])
    monkeypatch.setattr(costs, "trainers_here", lambda space: 2)
    monkeypatch.setattr(costs, "is_virtual", lambda system: True)
    time = space_costs(check_space(Path(SPACE_FILES).parents[3] / "spaces" / "quickstart.yaml", []).require()).time
    assert time.trainers_s.low < 284 < time.trainers_s.high
    assert 180 < time.device_s.low < 240 < time.device_s.high < 320
    assert time.wall_s.low < 316 < time.wall_s.high < 460


def test_the_database_of_a_study_is_the_better_basis(tmp_path):
    storage = f"sqlite:///{tmp_path / 'x.db'}"
    ledger = Ledger.open(storage)
    for stage in (Stage.SCREEN, Stage.PROXY, Stage.EXPORT, Stage.TRAIN):
        ledger.costs.note(stage, StageCost(1.0, {}, 0.0, 2.0, "worker here/1"))
    for protocol in ("screen-1", "confirm-1"):
        ledger.costs.note(Stage.MEASURE, StageCost(1.0, {}, 0.0, 3.0, "device local"), protocol)
    ledger.close()
    time = found("space.backbone=vit_fmnist_p4", f"storage={storage}").time
    assert time.basis[0].endswith(f"trainings of 2 s (means of what is in {tmp_path / 'x.db'})")
    assert time.device_s.low == pytest.approx(3.0 * (time.screened.low + costs.REMEASURED))


def test_a_study_without_a_confirmation_is_a_basis_too(tmp_path):
    """A search beside references takes none."""
    storage = f"sqlite:///{tmp_path / 'x.db'}"
    ledger = Ledger.open(storage)
    for stage in (Stage.SCREEN, Stage.PROXY, Stage.EXPORT, Stage.TRAIN):
        ledger.costs.note(stage, StageCost(1.0, {}, 0.0, 2.0, "worker here/1"))
    ledger.costs.note(Stage.MEASURE, StageCost(1.0, {}, 0.0, 3.0, "device local"), "screen-1")
    ledger.close()
    assert "means of what is in" in found("space.backbone=vit_fmnist_p4", f"storage={storage}").time.basis[0]


def test_each_backbone_is_listed_unpruned():
    chosen = "space.backbone=[vit_fmnist_p4, efficientvit_fmnist]", "space.resolution=[24, 28]"
    screening = found(*chosen, "space.quantization=[fp32, int8_ptq]", "space.batch=1").screening
    vit, efficientvit = screening.backbones
    sizes = ImageSize.square(24), ImageSize.square(28)
    assert (vit.backbone, vit.resolutions, vit.base_resolution) == ("vit_fmnist_p4", sizes, sizes[1])
    assert (vit.params_m, vit.macs_m) == (pytest.approx(2.684554), pytest.approx(138.622848))
    assert vit.files == 2
    assert vit.screening_s == pytest.approx(2 * (4.3 + 3.6))
    assert efficientvit.files == 3  # auto also tries int8 in its convolutions
    assert efficientvit.screening_s == pytest.approx(2 * (4.3 + 3.6) + 1.4 + 3.6)
    assert screening.files == 5
    assert 5 * 3.6 < screening.wall_s < vit.screening_s + efficientvit.screening_s


def test_without_a_number_of_trainings_no_time_is_estimated():
    assert found("space.backbone=vit_fmnist_p4", "search.budget=1h").time is None


def test_the_costs_in_words():
    text = found("space.backbone=vit_fmnist_p4").describe()
    assert text.startswith("models: ")
    assert "million parameters" in text
    assert "\nscreening: about " in text
    assert "\ntime: about " in text
    assert "in all with " in text


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [(30.0, 30.0, "about 30 s"), (90.0, 300.0, "about 1.5 to 5 min"), (3000.0, 9000.0, "about 0.83 to 2.5 h")],
)
def test_durations_share_a_unit(low, high, text):
    assert costs._durations(costs.ValueRange(low, high)) == text


def test_large_numbers_are_written_out():
    assert str(costs.ValueRange(70.6, 4481.3)) == "70.6 to 4,481"
    assert str(costs.ValueRange(1.0, 1.0)) == "1"
