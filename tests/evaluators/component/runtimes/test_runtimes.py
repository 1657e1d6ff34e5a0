import pytest

from vitsearch_agent import runtimes
from vitsearch_agent.errors import AgentError, InvalidRequest, MeasurementFailed
from vitsearch_agent.runtime_facts import FORMATS, RUNTIMES
from vitsearch_agent.runtimes import base
from vitsearch_agent.runtimes.noop import NoopRuntime
from vitsearch_agent.testing import RuntimeTestCase, check_facts, check_format


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


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_runtime_has_all_of_its_facts(name):
    check_facts(name)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_format_has_all_of_its_facts(kind):
    check_format(kind)


def test_entry_points_are_added_and_duplicates_refused():
    assert runtimes.table(lambda: [("mine", "a:B")])["mine"] == "a:B"
    with pytest.raises(AgentError, match="'noop' is registered twice"):
        runtimes.table(lambda: [("noop", "a:B")])


def test_noop_counts_the_images_of_the_batch_and_takes_no_shapes(blob):
    assert NoopRuntime().load(blob, {"hash_kib": 1}, 1, 4, {}).batch == 4
    with pytest.raises(MeasurementFailed, match="noop does not read the model"):
        NoopRuntime().load(blob, {"busy_us": 1}, 1, None, {"x": (1, 2)})


@pytest.mark.parametrize(
    ("error", "kind"),
    [(ValueError("shapes do not fit\n"), "incompatible_artifact"), (RuntimeError("std::bad_alloc"), "out_of_memory")],
)
def test_a_refusal_keeps_the_words_of_the_library(error, kind):
    failure = base.refused(error, "it refuses to run the model")
    assert (failure.kind, str(failure)) == (kind, f"it refuses to run the model: {str(error).strip()}")


def test_the_base_class_checks_options_against_its_table():
    class Listed(NoopRuntime):
        options = {"mode": ("fast", "slow")}
        check_options = base.Runtime.check_options

    assert Listed().check_options({}) == {"mode": "fast"}
    with pytest.raises(InvalidRequest, match="'warp' is not one of 'fast', 'slow'"):
        Listed().check_options({"mode": "warp"})
