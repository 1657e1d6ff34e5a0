"""The 27 faults that a device in the field meets: what is to happen, and the tests that provoke each for real."""

import pathlib
import re

import pytest

from support import TESTS

FAULTS = {
    1: (
        "the agent is killed in an upload: it goes on at its offset",
        "test_client.py::test_upload_goes_on_after_the_agent_was_killed",
    ),
    2: (
        "the agent is killed in a measurement: the child dies with it, the job is repeated in front, and bounded",
        "test_worker.py::test_agent_killed_while_measuring_measures_again",
        "test_worker.py::test_agent_killed_too_often_gives_the_job_up",
        "test_queue.py::test_interrupted_jobs_come_first_and_are_capped",
        "test_survival.py::test_two_hundred_kills_over_a_hundred_jobs",
    ),
    3: (
        "the device reboots: no process is killed, and what was begun in another environment is not mixed",
        "test_queue.py::test_after_a_reboot_no_process_is_killed",
        "test_faults_agent.py::test_half_done_work_goes_on_only_in_the_same_environment",
        "test_emulated_device.py::test_a_power_mode_that_a_reboot_reset_ends_the_job",
        "test_faults_agent.py::test_a_job_for_the_old_environment_fails_in_the_new_and_may_be_planned_again",
    ),
    4: (
        "the agent's state is gone: the client sends model and job again, under the same id",
        "test_client.py::test_an_agent_that_lost_queue_and_models_is_given_both_again",
        "test_recovery.py::test_a_damaged_file_is_kept_beside_and_a_new_one_begins",
    ),
    5: (
        "the network is cut in an upload, a measurement, a result: retried, and measured once",
        "test_faults_network.py::test_a_cut_in_an_upload_costs_no_more_than_a_chunk",
        "test_faults_network.py::test_a_cut_in_a_measurement_repeats_nothing",
        "test_faults_network.py::test_a_result_that_was_lost_on_its_way_is_fetched_again",
    ),
    6: (
        "a half-open line is noticed by its read timeout",
        "test_access.py::test_a_half_open_line_is_noticed_and_nothing_is_measured_twice",
    ),
    7: (
        "a slow link takes smaller pieces; nothing times out by the size of the whole",
        "test_faults_network.py::test_a_slow_link_takes_smaller_pieces_and_no_timeout_counts_the_whole",
    ),
    8: (
        "the same PUT or DELETE twice is one; another specification is a conflict",
        "test_server.py::test_putting_a_job_twice_is_the_same_job",
        "test_server.py::test_racing_puts_are_one_job",
        "test_queue.py::test_another_specification_under_the_same_id_is_a_conflict",
    ),
    9: (
        "a dispatcher whose claim ran out loses it to the next, and what both ask for is one job",
        "test_ledger.py::test_a_claim_that_ran_out_goes_to_the_next",
        "test_ledger.py::test_only_its_holder_releases_a_claim",
        "test_client.py::test_the_same_question_is_measured_once",
    ),
    10: (
        "an upload is damaged or cut short: dropped, sent once more, then a final failure",
        "test_faults_network.py::test_damaged_bytes_are_noticed_and_sent_once_more",
        "test_faults_network.py::test_a_line_that_damages_everything_is_a_final_failure",
        "test_server.py::test_a_client_that_leaves_in_the_middle_is_forgotten",
    ),
    11: (
        "a model crashes the runtime: final after the same crash in a second child, the agent healthy",
        "test_faults_model.py::test_a_crash_is_final_and_the_agent_healthy",
        "test_faults_model.py::test_a_crash_that_does_not_come_back_is_forgiven",
    ),
    12: (
        "a model never ends: a timeout, and none of its descendants is left",
        "test_faults_model.py::test_an_endless_model_ends_with_all_its_descendants",
    ),
    13: (
        "a model does not fit: out_of_memory, by MemoryError or by the kernel's own count",
        "test_faults_model.py::test_a_model_without_bounds_does_not_fit_and_only_it_dies",
        "test_faults_model.py::test_an_old_kernel_that_counts_nothing_says_it_in_its_log",
        "test_faults_model.py::test_a_memory_error_does_not_fit_either",
    ),
    14: (
        "the clock jumps: durations do not notice",
        "test_queue.py::test_waiting_time_is_monotonic",
        "test_faults_agent.py::test_no_duration_is_taken_from_a_clock_that_may_jump",
    ),
    15: (
        "the disk is full under models, queue and log: 507, eviction, degraded health, no crash loop",
        "test_full_disk.py::test_it_refuses_says_so_and_goes_on_when_there_is_room",
        "test_full_disk.py::test_killed_on_a_full_disk_it_starts_and_waits_instead_of_dying_again",
        "test_full_disk.py::test_the_models_that_nobody_needs_go_first",
        "test_audit_log.py::test_lost_lines_are_counted_and_nothing_is_raised",
    ),
    16: (
        "two studies contend: one measurement at a time, owners in turn",
        "test_worker.py::test_two_clients_one_measurement_at_a_time",
        "test_queue.py::test_owners_take_turns",
        "test_fairness.py::test_listed_as_served",
    ),
    17: (
        "the device throttles: cooled down and repeated, then said",
        "test_monitor.py::test_a_throttled_process_is_repeated_after_cooling_down",
        "test_monitor.py::test_a_process_throttled_in_every_repeat_is_kept_and_recorded",
        "test_emulated_device.py::test_a_throttled_process_is_repeated_after_cooling_down",
        "test_emulated_device.py::test_throttling_in_every_repeat_is_flagged",
    ),
    18: (
        "somebody else computes on the device: flagged",
        "test_combine.py::test_contention_is_flagged_by_the_wait_for_a_processor",
    ),
    19: (
        "the device stays away: the study trains on, trials wait and are told once; given up when nothing else is left",
        "test_run_outage.py::test_training_goes_on_without_the_board_and_all_is_told_once_when_it_is_back",
        "test_run_outage.py::test_a_board_that_stays_away_ends_the_run_when_all_else_is_done_and_a_second_run_finishes",
        "test_outage.py::test_no_more_is_asked_for_when_enough_waits",
        "test_availability.py::test_it_is_not_lost_while_something_else_is_made",
        "test_agent_device.py::test_another_board_at_its_address_is_a_lost_device",
        "test_client.py::test_silence_ends_at_the_deadline",
        "test_agent_device.py::test_a_device_that_does_not_answer_is_one_message",
    ),
    20: (
        "client and agent share no protocol version: both versions are named",
        "test_client.py::test_versions_that_share_nothing_are_both_named",
        "test_access.py::test_an_agent_of_another_version_is_final_and_both_versions_are_told",
        "test_server.py::test_refused_jobs",
    ),
    21: (
        "the token was rotated: final at once",
        "test_access.py::test_a_token_that_is_rotated_in_a_run_ends_it_at_once",
    ),
    22: (
        "the child answers garbage: a protocol failure, never a result",
        "test_faults_model.py::test_garbage_is_a_protocol_failure_and_never_a_result",
        "test_child_process.py::test_garbage_is_a_protocol_failure",
    ),
    23: (
        "no child can be started: the job fails, the worker lives",
        "test_worker.py::test_an_unstartable_child_fails_the_job_and_not_the_worker",
        "test_child_process.py::test_a_python_that_cannot_start_is_a_spawn_failure",
    ),
    24: (
        "a process escapes, or stays as a zombie: swept",
        "test_faults_model.py::test_zombies_and_escaped_processes_are_swept",
        "test_processes.py::test_a_zombie_is_gone",
    ),
    25: (
        "clients that are silent or slow, with TLS and without: others are served",
        "test_access.py::test_silent_and_slow_clients_are_not_waited_for",
        "test_server.py::test_silent_clients_do_not_block_others_and_too_many_are_turned_away",
    ),
    26: (
        "an engine of another TensorRT, GPU or power mode, or a damaged one: built anew, never loaded",
        "test_trtexec.py::test_another_tensorrt_builds_a_new_engine_and_never_loads_the_old_one",
        "test_trtexec.py::test_another_power_mode_model_or_precision_builds_a_new_engine",
        "test_trtexec.py::test_another_gpu_builds_a_new_engine",
        "test_trtexec.py::test_a_damaged_engine_is_built_again",
    ),
    27: (
        "the canary drifts: quarantine, and results are flagged until it is well again",
        "test_canary.py::test_a_device_that_drifted_says_so_flags_its_results_and_recovers",
    ),
}


def test_every_fault_is_provoked():
    assert sorted(FAULTS) == list(range(1, 28))


@pytest.mark.parametrize("number", sorted(FAULTS))
def test_its_tests_exist(number):
    what, *tests = FAULTS[number]
    assert what
    assert tests
    for test in tests:
        file_name, _, name = test.partition("::")
        texts = [path.read_text() for path in pathlib.Path(TESTS).rglob(file_name)]
        assert any(re.search(rf"^ *def {name}\(", text, re.MULTILINE) for text in texts), test
