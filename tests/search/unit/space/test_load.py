"""Loading of valid space files."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from support import PYTHON_PATH, REPOSITORY, SPACE_FILES
from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Augmentation, QuantizationAware, Recipe
from vitsearch.core.tuning import tuning_of
from vitsearch.errors import SpaceError, StudyError
from vitsearch.space import SearchSpace, json_schema, load

ROOT = Path(REPOSITORY)
SMALL = Path(SPACE_FILES, "small.yaml")
GOLDEN = Path(SPACE_FILES, "small.json")
FULL = """
study: board_night
task:
  data: {source: folder, root: ~/data/parts, image_size: 224, channels: 3, validation_share: 0.2, seed: 3}
  fine_tune: {rungs: [0, 1, 3], lr: 5e-4}
  base: {images_per_epoch: all}
  teacher: {backbone: deit_small_patch16_224}
baseline: {backbone: deit_small_patch16_224, resolution: 224}
objectives: {accuracy: maximize, latency_ms_p50@nano: minimize, size_mb: minimize}
limits:
  accuracy: {min: 0.7, max_drop: 0.02}
  latency_ms_p95@nano: {max: 33, max_ratio: 0.5}
space:
  backbone: [deit_tiny_patch16_224, {name: vit_fmnist_p4}, {name: own, weights: "file:own.safetensors"}]
  resolution: [160, 192]
  window_size: 7
  head_pruning_ratio: {low: 0.0, high: 0.5, step: 0.125}
  ffn_pruning_ratio: 0
  distillation: [none, logits]
devices:
  nano: {url: "https://nano.local:8470/", token: "env:VITSEARCH_NANO_TOKEN"}
  pi5: [pi5-a, "http://pi5-b.local:8470"]
fleet: {weights: {nano: 2, pi5: 1}}
search: {budget: 1h30m, sampler: nsga2, seed: 7}
resources: {trainers: 2, gpus: 0.5}
storage: postgresql+psycopg://me:p%40ss@db.local/vit?sslmode=require
"""


@pytest.fixture
def full(tmp_path):
    path = tmp_path / "full.yaml"
    path.write_text(FULL)
    return load(path).space


def test_small_is_golden():
    assert load(SMALL).space.to_json() == json.loads(GOLDEN.read_text())


def test_committed_schema_is_current():
    assert json.loads((ROOT / "spaces" / "schema.json").read_text()) == json_schema()


def test_schema_describes_every_section():
    schema = json_schema()
    assert schema["$schema"].endswith("2020-12/schema")
    assert set(schema["properties"]) == {"extends", *SearchSpace.model_fields}
    assert all("description" in definition for definition in schema["$defs"].values())
    assert "budget" in schema["$defs"]["Search"]["properties"]


def test_every_section_is_read(full):
    assert full.task.teacher.backbone == "deit_small_patch16_224"
    assert full.task.base.images_per_epoch is None
    assert full.search.budget_s == 5400
    assert full.resources.trainers == 2
    assert full.devices["nano"].url == "https://nano.local:8470"
    assert full.fleet_names == ("nano", "pi5")
    assert {name: board.url for name, board in full.devices["pi5"].boards.items()} == {
        "pi5-a": None,
        "pi5-b-local-8470": "http://pi5-b.local:8470",
    }
    assert full.fleet_weights == {"nano": 2, "pi5": 1}
    assert full.choices() == {
        "backbone": ("deit_tiny_patch16_224", "vit_fmnist_p4", "own"),
        "resolution": (ImageSize.square(160), ImageSize.square(192)),
        "window_size": (7,),
        "head_pruning_ratio": (0.0, 0.125, 0.25, 0.375, 0.5),
        "ffn_pruning_ratio": (0.0,),
        "depth_pruning_ratio": (0.0,),
        "embed_pruning_ratio": (0.0,),
        "token_pruning_ratio": (0.0,),
        "token_pruning_method": ("topk",),
        "token_pruning_at": (),
        "weight_sparsity": ("none",),
        "pruning_scope": ("uniform",),
        "distillation": ("none", "logits"),
        "quantization": ("fp32",),
        "quantized_ops": ("auto",),
        "backend": ("onnxruntime",),
        "provider": (),
        "batch": ("auto",),
        "threads": (),
        "streams": (),
    }
    weights = [full.start_of(name).weights for name in full.choices()["backbone"]]
    assert weights == ["hub", "builtin", "file:own.safetensors"]
    assert (full.baseline.weights, full.baseline.resolution) == ("hub", ImageSize.square(224))


def test_recipe_has_the_fine_tuning_and_the_seed(full):
    assert full.recipe("vit_fmnist_p4") == Recipe((0, 1, 3), 2048, 64, 5e-4, 0.05, 8, 0.5, 2.0, seed=7)


def test_what_a_file_leaves_open_is_that_of_the_backbone():
    space = load(SMALL, ["task.fine_tune.lr=auto", "task.quantization_aware.lr=0.01"]).space
    for backbone in ("vit_fmnist_p4", "efficientvit_fmnist", "deit_tiny_patch16_224"):
        recipe, tuning = space.recipe(backbone), tuning_of(backbone)
        assert (recipe.lr, recipe.frozen_statistics) == (tuning.lr, tuning.frozen_statistics)
    assert load(SMALL, ["task.fine_tune.frozen_statistics=true"]).space.recipe("vit_fmnist_p4").frozen_statistics
    assert space.task.quantization_aware.settings() == QuantizationAware(lr=0.01)
    assert load(SMALL).space.task.quantization_aware.settings() == QuantizationAware()


def test_the_teacher_takes_missing_keys_from_the_base(full):
    base = ["task.base.lr=2e-3", "task.base.epochs=7", "task.base.augmentation=light"]
    teacher = load(SMALL, [*base, "task.teacher={backbone: vit_fmnist_p4, epochs: 30}"]).space.task.teacher
    assert (teacher.epochs, teacher.lr, teacher.augmentation) == (30, 2e-3, "light")
    assert full.task.teacher.lr == full.task.base.lr == 5e-4


def test_augmentation_is_off_by_default():
    key = "task.fine_tune.augmentation"
    off = {
        written: load(SMALL, [f"{key}={written}"]).space.recipe("vit").augmentation
        for written in ("none", "light", "{mixup: 0.2}")
    }
    assert load(SMALL).space.recipe("vit").augmentation == off["none"] == Augmentation()
    assert off["light"] == Augmentation(flip=0.5, crop=0.7)
    assert off["{mixup: 0.2}"] == Augmentation(mixup=0.2)


def test_every_field_of_a_training_enters_its_recipe():
    written = {"label_smoothing": 0.1, "layer_decay": 0.75, "frozen_blocks": 2, "gradient_checkpointing": True}
    overrides = [
        f"task.{section}.{key}={str(value).lower()}"
        for section in ("fine_tune", "base")
        for key, value in written.items()
    ]
    space = load(SMALL, overrides).space
    for recipe in (space.recipe("vit"), space.task.base.recipe(0)):
        assert {key: getattr(recipe, key) for key in written} == written


def test_passwords_are_never_shown(full):
    assert "p%40ss" in full.storage
    assert full.safe_storage == "postgresql+psycopg://me:***@db.local/vit?sslmode=require"
    assert "p%40ss" not in json.dumps(full.to_json())


@pytest.mark.parametrize("url", ["postgresql+psycopg://a:b@c@h/d", "postgresql+psycopg://h/d?user=x&password=b@c"])
def test_odd_passwords_are_masked(full, url):
    assert "b@c" not in full.model_copy(update={"storage": url}).safe_storage


def test_json_round_trip():
    space = load(SMALL).space
    assert SearchSpace.from_json(json.loads(json.dumps(space.to_json()))) == space


def test_json_round_trip_of_a_full_file(full):
    again = SearchSpace.from_json(full.to_json())
    assert again.to_json() == full.to_json()
    assert again == full.model_copy(update={"storage": full.safe_storage})


def test_a_resolution_is_a_side_or_height_and_width():
    space = load(SMALL, ["space.resolution=[28, [20, 24]]", "baseline.resolution=[24, 20]"]).space
    assert space.space.resolution == (ImageSize.square(28), ImageSize(20, 24))
    stored = space.to_json()
    assert (stored["space"]["resolution"], stored["baseline"]["resolution"]) == ([28, [20, 24]], [24, 20])
    assert SearchSpace.from_json(stored) == space


def test_the_baseline_has_the_most_pixels_of_the_space():
    assert load(SMALL, ["space.resolution=[28, [20, 40]]"]).space.baseline.resolution == ImageSize(20, 40)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("64x96", "space.resolution: '64x96' is not a size of images; allowed: a side, or [height, width]"),
        ("[28, 64x96]", "space.resolution[1]: '64x96' is not a size of images; allowed: a side, or [height, width]"),
        ("[[64]]", "space.resolution[0]: [64] is not a size of images; allowed: a side, or [height, width]"),
        ("[[64, 5000]]", "space.resolution[0][1]: 5000 is above 4,096; allowed: 8 to 4,096"),
        ("[[64, 96], [64, 96]]", "space.resolution: 64x96 is listed twice"),
    ],
)
def test_what_is_no_size_of_images_is_refused(written, said):
    with pytest.raises(SpaceError) as refused:
        load(SMALL, [f"space.resolution={written}"])
    assert said in str(refused.value)


def test_defaults_of_a_short_file():
    space = load(SMALL, ["study=null", "space.backbone=deit_tiny_patch16_224", "space.resolution=[16, 24]"]).space
    assert space.study == "small"
    assert space.storage == "sqlite:///studies/small.db"
    assert space.baseline.model_dump() == {
        "backbone": "deit_tiny_patch16_224",
        "weights": "hub",
        "resolution": 24,
    } | dict.fromkeys(("mean", "std", "interpolation", "crop_share"))
    assert space.device_names == ("local",)


def test_a_baseline_with_a_preprocessing_of_its_own_keeps_the_weights_of_the_space():
    listed = "space.backbone={name: deit_tiny_patch16_224, weights: 'file:own.pt', std: 0.5}"
    own = load(SMALL, [listed, "space.resolution=[16, 24]", "baseline={mean: 0.25}"]).space.baseline
    assert (own.weights, own.mean, own.std) == ("file:own.pt", (0.25,), None)
    same = load(SMALL, [listed, "space.resolution=[16, 24]", "baseline={resolution: 24}"]).space.baseline
    assert (same.weights, same.mean, same.std) == ("file:own.pt", None, (0.5,))


@pytest.mark.parametrize(
    ("written", "expected"),
    [("8h", 28800), ("30m", 1800), ("1h30m", 5400), ("45s", 45), ("0.5h", 1800), ("90", 90), ("none", None)],
)
def test_budgets(written, expected):
    assert load(SMALL, [f"search.budget={written}"]).space.search.budget_s == expected


def test_differences_are_dotted_keys():
    old = load(SMALL).space
    new = load(SMALL, ["search.trials=20", "limits.size_mb.max=2", "space.resolution=28"]).space
    assert old.differences(old) == []
    assert old.differences(new) == [
        "limits.size_mb.max: absent -> 2.0",
        "search.trials: 14 -> 20",
        "space.resolution: [24, 28] -> [28]",
    ]


def test_a_space_is_frozen():
    with pytest.raises(ValueError, match="frozen"):
        load(SMALL).space.search.trials = 3


def test_import_loads_no_heavy_library():
    code = "import sys, vitsearch.space; print([m for m in sys.argv[1:] if m in sys.modules])"
    heavy = ["torch", "ray", "optuna", "sqlalchemy", "timm", "numpy"]
    done = subprocess.run(
        [sys.executable, "-c", code, *heavy],
        env={"PYTHONPATH": PYTHON_PATH}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "[]\n"


def test_without_a_number_twelve_plans_are_trained_and_with_a_budget_as_many_as_fit():
    assert load(SMALL, ["search.trials=null"]).space.search.wanted == 12
    assert load(SMALL, ["search.trials=null", "search.budget=30m"]).space.search.wanted is None


def test_a_budget_on_the_line_replaces_the_number_of_the_file():
    assert load(SMALL).space.search.wanted == 14
    assert load(SMALL, ["search.budget=30m"]).space.search.wanted is None
    assert load(SMALL, ["search.budget=30m", "search.trials=5"]).space.search.wanted == 5


@pytest.mark.parametrize("none", ["none", "null", ""])
def test_a_budget_that_is_lifted_leaves_the_number_of_the_file(none):
    assert load(SMALL, [f"search.budget={none}"]).space.search.wanted == 14


@pytest.fixture
def with_devices():
    def loaded(**changes):
        return SearchSpace.from_json(json.loads(GOLDEN.read_text()) | changes)

    return loaded


def test_a_list_of_devices_is_one_device_called_like_the_first(with_devices):
    space = with_devices(devices=["nano-1", "nano-2"])
    assert (space.device_name, space.fleet_names, list(space.devices)) == ("nano-1", (), ["nano-1"])
    assert list(space.devices["nano-1"].boards_of("nano-1")) == ["nano-1", "nano-2"]
    assert SearchSpace.from_json(space.to_json()) == space


def test_several_devices_are_a_fleet_whose_worst_device_counts(with_devices):
    space = with_devices(devices={"nano": "http://nano:8470", "pi5": {"deadline": "1h"}})
    assert (space.device_name, space.fleet_names, space.fleet_weights) == ("fleet", ("nano", "pi5"), None)
    assert list(space.devices["pi5"].boards_of("pi5")) == ["pi5"]
    assert SearchSpace.from_json(space.to_json()) == space


def test_on_one_device_of_a_fleet_its_own_metrics_hold(with_devices):
    fleet = with_devices(
        devices={"nano": "http://nano:8470", "pi5": "http://pi5:8470"},
        objectives={"accuracy": "maximize", "latency_ms_p50@nano": "minimize", "energy_mj@pi5": "minimize"},
        limits={"peak_memory_mb": {"max": 900}, "latency_ms_p95@nano": {"max": 9}, "peak_memory_mb@nano": {"max": 500}},
    )
    nano = fleet.on_device("nano", fleet.devices["nano"])
    assert list(nano.objectives) == ["accuracy", "latency_ms_p50"]
    assert {name: limit.max for name, limit in nano.limits.items()} == {"peak_memory_mb": 500, "latency_ms_p95": 9}
    assert (nano.device_name, nano.fleet_names) == ("nano", ())
    other = fleet.on_device("orin", fleet.devices["nano"])
    assert list(other.objectives) == ["accuracy", "latency_ms_p50", "energy_mj"]
    assert {name: limit.max for name, limit in other.limits.items()} == {"peak_memory_mb": 900}


@pytest.mark.parametrize(
    ("device", "problem"),
    [
        (
            {"url": "https://nano", "token": "env:GITHUB_TOKEN"},
            "devices.nano.token: 'env:GITHUB_TOKEN' may hold a secret",
        ),
        ({"token": "env:VITSEARCH_NANO"}, "devices.nano.token: needs the url of the device beside it"),
        ({"url": "https://a:b@nano"}, "devices.nano.url: credentials do not belong in a url"),
        ({"url": "https://nano\u202e"}, "devices.nano.url: "),
        (
            {"boards": {"a": {"url": "https://a", "token": "env:HOME"}}},
            "devices.nano.boards.a.token: 'env:HOME' may hold",
        ),
    ],
)
def test_a_database_that_was_edited_is_one_clear_line(device, problem):
    stored = json.loads(GOLDEN.read_text()) | {"devices": {"nano": device}}
    with pytest.raises(StudyError) as error:
        SearchSpace.from_json(stored)
    assert str(error.value).startswith(f"the space file that the study keeps is not valid: {problem}")
    assert str(error.value).isprintable()


def test_a_task_of_ones_own_is_looked_for_beside_the_file(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(SMALL.read_text().replace("task:\n", "task:\n  kind: no_such_module_here:TASK\n"))
    with pytest.raises(SpaceError) as caught:
        load(path)
    (problem,) = caught.value.problems
    assert "task 'no_such_module_here:TASK': there is no module 'no_such_module_here' on " in problem
    assert problem.endswith(f": neither installed there nor in {tmp_path}")


def test_the_password_of_an_earlier_studys_database_is_not_stored(tmp_path):
    named = "postgresql+psycopg://me:hunter2@db/studies#parts"
    space = load(SMALL, [f"search.prior=[{named}]"]).space
    assert space.search.prior == (named,)
    assert space.to_json()["search"]["prior"] == ["postgresql+psycopg://me:***@db/studies#parts"]
