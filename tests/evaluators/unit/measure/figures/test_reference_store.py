import json

import pytest

from support.process_reports import process_report
from vitsearch_agent.measure.child.phase_reports import Block, PairedBlock
from vitsearch_agent.measure.figures.reference_store import KEPT, Observed, ReferenceKey, ReferenceStore

KEY = ReferenceKey("0" * 64, "1" * 64, "onnxruntime", 1)


def seen(factor):
    return Observed(2.0 * factor, 0.1 * factor, 2.5 * factor, 0.2 * factor)


def filled(factors, path=None):
    store = ReferenceStore(path)
    for factor in factors:
        store.add(KEY, "model", [seen(factor)])
    return store


def test_quiet_times_are_the_lowest_tenth_of_a_machine_that_is_never_idle():
    store = filled([1.0, *(1.3 + 0.02 * (index % 5) for index in range(8)), 1.0] * 4)
    times = store.times(KEY)
    assert times[:4] == pytest.approx(seen(1.0))
    assert (times.processes, times.provisional) == (40, False)


def test_times_are_provisional_until_there_are_enough_and_they_no_longer_move():
    assert filled([1.0] * 5).times(KEY).provisional
    assert filled([1.5] * 20 + [1.0] * 8).times(KEY).provisional, "the last processes were much faster"
    assert not filled([1.0] * 20).times(KEY).provisional


def test_a_machine_is_disturbed_when_its_usual_times_exceed_the_quiet_ones():
    assert not filled([1.0, 1.01, 1.02, 1.0, 1.01, 1.02]).is_disturbed(KEY)
    assert filled([1.0, 1.2, 1.3, 1.2, 1.3, 1.25]).is_disturbed(KEY)
    assert not filled([1.0, 1.3]).is_disturbed(KEY), "too few to judge"


def test_old_processes_are_forgotten():
    store = filled([1.0] * 10 + [1.5] * KEPT)
    assert store.times(KEY).products_cpu_ms == pytest.approx(3.0)


def test_each_environment_runtime_and_number_of_threads_has_its_own_times():
    store = filled([1.0])
    assert store.times(KEY) is not None
    assert store.times(KEY._replace(threads=2)) is store.times(KEY._replace(environment_id="2" * 64)) is None


def test_the_times_survive_a_restart(tmp_path):
    path = str(tmp_path / "references.json")
    assert ReferenceStore(path).times(KEY) is None
    before = filled([1.0, 1.2, 1.1], path).times(KEY)
    assert ReferenceStore(path).times(KEY) == before


def test_what_another_process_adds_to_the_same_file_is_kept(tmp_path):
    path, elsewhere = str(tmp_path / "references.json"), KEY._replace(threads=4)
    agent, command = ReferenceStore(path), ReferenceStore(path)
    command.add(elsewhere, "model", [seen(1.0)])
    agent.add(KEY, "model", [seen(1.0)])
    command.add(KEY, "model", [seen(1.2)])
    reloaded = ReferenceStore(path)
    assert (reloaded.times(KEY).processes, reloaded.times(elsewhere).processes) == (2, 1)


@pytest.mark.parametrize(
    "content", ["", "[]", '{"key": [[1, 2]]}', '{"key": [["a", [0, 1, 1, 1]]]}', '{"key": [["a", [1]]]}', '{"key": 3}']
)
def test_a_damaged_file_counts_as_a_missing_one(tmp_path, content):
    path = tmp_path / "references.json"
    path.write_text(content)
    store = ReferenceStore(str(path))
    assert store.times(KEY) is None
    store.add(KEY, "model", [seen(1.0)])
    assert list(json.loads(path.read_text())) == [str(KEY)]


def test_a_folder_that_cannot_be_written_keeps_the_times_in_memory(tmp_path):
    (tmp_path / "file").write_text("")
    store = ReferenceStore(str(tmp_path / "file" / "references.json"))
    store.add(KEY, "model", [seen(1.0)])
    assert store.times(KEY).processes == 1


def test_the_times_of_a_process_are_the_medians_of_its_blocks():
    pairs = [PairedBlock(Block(9.0, 9.0), Block(ms, 2 * ms), Block(ms / 10, ms / 5)) for ms in (1.0, 2.0, 9.0)]
    report = process_report([1.0] * 11, bursts=(tuple(pairs),))
    assert Observed.of(report) == pytest.approx((2.0, 0.2, 4.0, 0.4))
    assert Observed.of(process_report([1.0] * 11)) is None


def of_models(*factors):
    """A store in which each model, in turn, has seen its factor in five processes."""
    store = ReferenceStore()
    for index, factor in enumerate(factors):
        store.add(KEY, f"model{index}", [seen(factor)] * 5)
    return store


@pytest.mark.parametrize("claimed", [1e-6, 0.1, 0.6, 1.9, 1000.0])
def test_times_that_one_model_alone_reports_do_not_count(claimed):
    honest = of_models(1.0, 1.2, 1.1)
    lied = of_models(1.0, 1.2, claimed, 1.1)
    assert lied.times(KEY) == honest.times(KEY)


def test_one_time_of_four_is_enough_to_disbelieve_a_model():
    honest, lied = of_models(1.0, 1.2, 1.1), of_models(1.0, 1.2, 1.1)
    lied.add(KEY, "liar", [seen(1.1)._replace(convolutions_wall_ms=0.01)] * 10)
    assert lied.times(KEY) == honest.times(KEY)


def test_a_machine_that_becomes_faster_is_believed_when_a_second_model_shows_it():
    assert of_models(2.8, 2.7, 2.6, 1.0).times(KEY).products_cpu_ms > 5.0
    assert of_models(2.8, 2.7, 2.6, 1.0, 1.0).times(KEY).products_cpu_ms == pytest.approx(2.0)


def test_two_models_are_both_believed_as_nobody_knows_which_one_is_right():
    assert of_models(1.0, 0.1).times(KEY).processes == 10
