import pytest

from vitsearch_evaluators import runtimes
from vitsearch_evaluators.errors import EvaluatorError, InvalidRequest, MeasurementFailed
from vitsearch_evaluators.runtimes import base
from vitsearch_evaluators.runtimes.needs import NEEDS, Needs
from vitsearch_evaluators.runtimes.noop import NoopRuntime
from vitsearch_evaluators.testing import RuntimeTestCase


class TestNoop(RuntimeTestCase):
    rejects_garbage = False

    def make_runtime(self):
        return NoopRuntime()

    def make_model(self, folder):
        path = folder + "/model"
        with open(path, "wb") as stream:
            stream.write(b"anything")
        return path

    def make_options(self):
        return {"busy_us": 10}


@pytest.mark.parametrize("busy_us", [-1, 10**7, "1", True])
def test_noop_checks_its_option(busy_us):
    with pytest.raises(InvalidRequest, match="options.busy_us"):
        NoopRuntime().check_options({"busy_us": busy_us})


def test_noop_takes_an_amount_of_work_or_a_time_but_not_both():
    assert NoopRuntime().check_options({"hash_kib": 8}) == {"hash_kib": 8}
    with pytest.raises(InvalidRequest, match="options.hash_kib"):
        NoopRuntime().check_options({"hash_kib": 0})
    with pytest.raises(InvalidRequest, match="not both"):
        NoopRuntime().check_options({"hash_kib": 8, "busy_us": 1})


def test_an_unknown_runtime_suggests_the_nearest_name():
    with pytest.raises(InvalidRequest, match="did you mean 'onnxruntime'"):
        runtimes.create("onnxruntim")


def test_builtin_names_and_classes_agree():
    assert {name: runtimes.create(name).name for name in runtimes.BUILTIN} == {name: name for name in runtimes.BUILTIN}


def test_the_table_of_needs_agrees_with_the_runtimes():
    made = {name: runtimes.create(name) for name in runtimes.BUILTIN}
    assert {name: Needs(one.libraries, one.tools) for name, one in made.items()} == NEEDS


def test_entry_points_are_added_and_duplicates_refused():
    assert runtimes.table(lambda: [("mine", "a:B")])["mine"] == "a:B"
    with pytest.raises(EvaluatorError, match="'noop' is registered twice"):
        runtimes.table(lambda: [("noop", "a:B")])


@pytest.mark.parametrize(
    ("shape", "batch", "concrete"),
    [([1, 3, 8, 8], 1, [1, 3, 8, 8]), (["n", 3, "h"], 2, [2, 3, 2]), ([None, 4], 5, [5, 4]), ([], 1, [])],
)
def test_open_dimensions_become_the_batch(shape, batch, concrete):
    assert base.concrete_shape("image", shape, batch) == concrete


def test_another_fixed_batch_is_an_incompatible_artifact():
    with pytest.raises(MeasurementFailed, match="asks for a batch of 8") as caught:
        base.concrete_shape("image", [1, 3], 8)
    assert caught.value.kind == "incompatible_artifact"


def test_the_base_class_checks_options_against_its_table():
    class Listed(NoopRuntime):
        options = {"mode": ("fast", "slow")}
        check_options = base.Runtime.check_options

    assert Listed().check_options({}) == {"mode": "fast"}
    with pytest.raises(InvalidRequest, match="'warp' is not one of 'fast', 'slow'"):
        Listed().check_options({"mode": "warp"})
