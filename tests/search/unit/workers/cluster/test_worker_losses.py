"""How often a stage is repeated, by what ended its worker."""

from __future__ import annotations

from pathlib import Path

import pytest

from vitsearch.core.stage import Stage
from vitsearch.errors import StageError, WorkerCrashed
from vitsearch.workers.cluster.worker_losses import KILLED, NO_MEMORY, NODE_LOST, WorkerLosses
from vitsearch.workers.crash_log import NativeCrash

LOST = ConnectionError("lost")
CRASH = NativeCrash("SIGSEGV", ("Fatal Python error: Segmentation fault",), Path("stage.log"))


@pytest.mark.parametrize("loss", [KILLED, NODE_LOST, NO_MEMORY])
def test_a_stage_fails_with_its_kind_after_one_loss_too_many(loss):
    losses = WorkerLosses(Stage.TRAIN)
    for _ in range(loss.allowed):
        losses.count(loss, LOST)
    with pytest.raises(
        StageError, match=f"^training failed .{loss.kind}.: {loss.allowed + 1} {loss.reason}$"
    ) as caught:
        losses.count(loss, LOST)
    assert (caught.value.kind, type(caught.value), caught.value.__cause__) == (loss.kind, StageError, LOST)


def test_a_lost_node_does_not_count_against_what_a_killed_worker_may_do():
    losses = WorkerLosses(Stage.TRAIN)
    for _ in range(KILLED.allowed):
        losses.count(KILLED, LOST)
        losses.count(NODE_LOST, LOST)


def test_a_second_crash_of_native_code_is_final_and_names_each_signal():
    losses = WorkerLosses(Stage.EXPORT)
    losses.count_crash(NativeCrash("SIGABRT", ("Fatal Python error: Aborted",), Path("first.log")), LOST)
    with pytest.raises(
        WorkerCrashed, match="2 workers, .* died in native code of SIGABRT and SIGSEGV; .* log: stage.log"
    ):
        losses.count_crash(CRASH, LOST)


def test_each_loss_is_logged_with_how_many_are_allowed(warnings_of):
    heard = warnings_of("vitsearch.workers.cluster.worker_losses")
    WorkerLosses(Stage.TRAIN).count(NODE_LOST, LOST)
    assert heard == ["training: a node was lost (1 of 21); the stage runs again"]


def test_a_lost_node_is_named(warnings_of):
    heard = warnings_of("vitsearch.workers.cluster.worker_losses")
    WorkerLosses(Stage.TRAIN).count(NODE_LOST, LOST, "trainer-2 (10.0.0.2)")
    assert heard == ["training: a node was lost: trainer-2 (10.0.0.2) (1 of 21); the stage runs again"]
