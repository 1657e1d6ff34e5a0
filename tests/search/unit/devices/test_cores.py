"""Which cores measure, which train, and who keeps off them."""

from __future__ import annotations

import os

import pytest

from vitsearch.devices.cores import CAN_PIN, Cores

ALLOWED = tuple(sorted(os.sched_getaffinity(0))) if CAN_PIN else ()

pytestmark = pytest.mark.skipif(not CAN_PIN, reason="processes cannot be kept on some cores here")


def test_the_last_core_measures_and_the_others_train():
    cores = Cores.shared()
    assert cores.device == (ALLOWED[-1],)
    assert cores.trainers == (ALLOWED[:-1] or ALLOWED)
    assert cores.all == ALLOWED


def test_each_thread_has_a_core_and_trainings_share_them_where_none_is_left():
    cores = Cores.shared(len(ALLOWED))
    assert cores == Cores(ALLOWED, ALLOWED)
    assert not cores.are_apart


@pytest.mark.skipif(len(ALLOWED) < 2, reason="one core has to measure and to train")
def test_a_process_keeps_off_the_cores_of_the_device_for_a_while():
    cores = Cores.shared()
    assert cores.are_apart
    with cores.kept_free():
        assert os.sched_getaffinity(0) == set(cores.trainers)
    assert os.sched_getaffinity(0) == set(ALLOWED)
