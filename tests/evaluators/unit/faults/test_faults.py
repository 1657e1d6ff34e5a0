"""The 28 faults of devices in the field: the expected behaviour, and the tests that cause each fault for real."""

import pathlib
import re

import pytest

from support import TESTS

FAULTS = {
    1: (
        "the agent is killed during an upload: the upload continues at its offset",
        "test_client.py::test_upload_continues_after_the_agent_was_killed",
    ),
    2: (
        "the agent is killed during a measurement: the child ends too, the job is repeated first, up to a limit",
        "test_worker.py::test_an_agent_killed_while_measuring_repeats_the_job",
        "test_worker.py::test_an_agent_killed_too_often_gives_the_job_up",
        "test_job_queue.py::test_interrupted_jobs_come_first_and_fail_after_the_limit",
        "test_survival.py::test_two_hundred_kills_over_a_hundred_jobs",
    ),
    3: (
        "the device reboots: no process is killed, and results of two environments are not mixed",
        "test_job_queue.py::test_after_a_reboot_no_process_is_killed",
        "test_faults_agent.py::test_an_interrupted_job_continues_only_in_the_same_environment",
        "test_emulated_device.py::test_a_power_mode_that_a_reboot_reset_ends_the_job",
        "test_faults_agent.py::test_a_job_for_the_old_environment_fails_in_the_new_one_with_a_transient_error",
    ),
    4: (
        "the agent's state is gone: the client sends model and job again, under the same id",
        "test_client.py::test_an_agent_that_lost_queue_and_models_gets_both_again",
        "test_recovery.py::test_a_damaged_file_is_renamed_and_a_new_queue_begins",
    ),
    5: (
        "the network fails during an upload, a measurement, a result: retried, and measured once",
        "test_faults_network.py::test_a_lost_connection_costs_an_upload_at_most_one_chunk",
        "test_faults_network.py::test_a_lost_connection_does_not_repeat_a_measurement",
        "test_faults_network.py::test_a_lost_result_is_fetched_again",
    ),
    6: (
        "a half-open connection is detected by the read timeout",
        "test_access.py::test_a_half_open_connection_is_detected_and_nothing_is_measured_twice",
    ),
    7: (
        "a slow link gets smaller chunks; no timeout depends on the size of the whole file",
        "test_faults_network.py::test_a_slow_link_gets_smaller_chunks_and_no_timeout_for_the_whole_file",
    ),
    8: (
        "a repeated PUT or DELETE has no further effect; another specification is a conflict",
        "test_server.py::test_putting_a_job_twice_returns_the_same_job",
        "test_server.py::test_concurrent_puts_make_one_job",
        "test_job_queue.py::test_another_specification_under_the_same_id_is_a_conflict",
    ),
    9: (
        "a dispatcher loses an expired claim to the next one, and the requests of both are one job",
        "test_ledger.py::test_a_claim_that_ran_out_is_taken_over_or_renewed",
        "test_ledger.py::test_only_its_holder_releases_a_claim",
        "test_client.py::test_equal_requests_are_measured_once",
    ),
    10: (
        "an upload is damaged or truncated: removed, sent once more, then a final failure",
        "test_faults_network.py::test_damaged_bytes_are_detected_and_sent_once_more",
        "test_faults_network.py::test_a_connection_that_damages_everything_is_a_final_failure",
        "test_server.py::test_an_upload_whose_client_disconnects_leaves_nothing",
    ),
    11: (
        "a model crashes the runtime: final after the same crash in a second child, and the agent is healthy",
        "test_faults_model.py::test_a_repeated_crash_is_final_and_the_agent_is_healthy",
        "test_faults_model.py::test_a_job_that_crashes_once_is_repeated_and_done",
    ),
    12: (
        "a model never ends: a timeout, and no descendant is left",
        "test_faults_model.py::test_an_endless_model_ends_with_all_its_descendants",
    ),
    13: (
        "a model does not fit: out_of_memory, by MemoryError or by the kernel's own count",
        "test_faults_model.py::test_a_model_that_exhausts_the_memory_fails_and_the_agent_survives",
        "test_faults_model.py::test_without_a_kernel_counter_the_kernel_log_shows_the_kill",
        "test_faults_model.py::test_a_memory_error_is_out_of_memory",
    ),
    14: (
        "the clock jumps: durations are not affected",
        "test_job_queue.py::test_waiting_time_is_monotonic",
        "test_faults_agent.py::test_durations_do_not_use_the_wall_clock",
    ),
    15: (
        "the disk is full for models, queue and log: 507, eviction, degraded health, no crash loop",
        "test_full_disk.py::test_it_refuses_requests_reports_why_and_continues_when_there_is_room",
        "test_full_disk.py::test_an_agent_killed_on_a_full_disk_starts_again_and_answers",
        "test_full_disk.py::test_models_that_no_job_needs_are_evicted",
        "test_audit_log.py::test_a_full_disk_loses_lines_and_counts_them",
    ),
    16: (
        "two studies contend: one measurement at a time, owners in turn",
        "test_worker.py::test_jobs_of_two_clients_are_measured_one_at_a_time",
        "test_job_queue.py::test_owners_are_served_in_turn",
        "test_fairness.py::test_jobs_are_listed_in_the_order_of_service",
    ),
    17: (
        "the device throttles: it cools down and measures again; if it throttles again, the result is flagged",
        "test_monitor.py::test_a_throttled_process_is_repeated_after_cooling_down",
        "test_monitor.py::test_a_process_throttled_in_every_repeat_is_kept_and_recorded",
        "test_emulated_device.py::test_a_throttled_process_is_repeated_after_cooling_down",
        "test_emulated_device.py::test_throttling_in_every_repeat_is_flagged",
    ),
    18: (
        "other load runs on the device: flagged",
        "test_combine.py::test_a_wait_for_a_processor_shows_contention",
        "test_timing.py::test_references_that_disagree_flag_the_measurement_as_contended",
    ),
    19: (
        "the device is unreachable: training continues, trials wait, one message; given up when nothing else is left",
        "test_run_outage.py::test_training_goes_on_without_the_board_and_all_is_told_once_when_it_is_back",
        "test_run_outage.py::test_a_board_that_stays_away_ends_the_run_when_all_else_is_done_and_a_second_run_finishes",
        "test_outage.py::test_no_more_is_asked_for_when_enough_waits",
        "test_availability.py::test_the_device_is_not_lost_while_other_work_runs",
        "test_agent_device.py::test_another_device_at_the_address_means_a_lost_device",
        "test_client.py::test_a_device_that_does_not_answer_is_given_up_at_the_deadline",
        "test_agent_device.py::test_connecting_to_a_silent_device_fails_with_one_message",
    ),
    20: (
        "client and agent share no protocol version: both versions are named",
        "test_client.py::test_an_error_names_both_versions_if_no_version_is_shared",
        "test_access.py::test_an_agent_of_another_version_is_a_final_error_with_both_versions",
        "test_server.py::test_invalid_jobs_are_refused",
    ),
    21: (
        "the token was rotated: a final error",
        "test_access.py::test_a_token_rotated_during_a_run_is_a_final_error",
    ),
    22: (
        "the child answers garbage: a protocol failure, never a result",
        "test_faults_model.py::test_garbage_is_a_protocol_failure_and_never_a_result",
        "test_child_process.py::test_garbage_is_a_protocol_failure",
    ),
    23: (
        "no child can be started: the job fails, the worker lives",
        "test_worker.py::test_a_child_that_cannot_be_started_fails_the_job_and_not_the_worker",
        "test_child_process.py::test_a_python_that_cannot_start_is_a_spawn_failure",
    ),
    24: (
        "a process escapes or becomes a zombie: killed and reaped",
        "test_faults_model.py::test_zombies_and_escaped_processes_are_removed",
        "test_processes.py::test_a_zombie_counts_as_ended",
    ),
    25: (
        "clients that are silent or slow, with TLS and without: the others are served",
        "test_access.py::test_silent_and_slow_clients_do_not_block_others",
        "test_connections.py::test_silent_clients_do_not_block_others",
        "test_connections.py::test_a_connection_beyond_the_limit_is_refused_until_others_end",
    ),
    26: (
        "an engine of another TensorRT, GPU or power mode, or a damaged one: rebuilt, never loaded",
        "test_trtexec_build.py::test_another_tensorrt_builds_a_new_engine_and_never_loads_the_old_one",
        "test_trtexec_build.py::test_another_power_mode_model_or_precision_builds_a_new_engine",
        "test_trtexec_build.py::test_another_gpu_builds_a_new_engine",
        "test_trtexec_build.py::test_a_damaged_engine_is_built_again",
    ),
    27: (
        "the canary drifts: quarantine, and results are flagged until it is good again",
        "test_canary.py::test_a_drifted_device_is_quarantined_flags_its_results_and_recovers",
    ),
    28: (
        "agent, warm parent or measuring process are stopped: each model is measured once, or it is given up",
        "test_stopped.py::test_an_agent_that_is_stopped_for_longer_than_a_request_measures_once",
        "test_stopped.py::test_an_agent_that_stays_stopped_is_given_up_and_the_next_one_measures",
        "test_stopped.py::test_a_process_that_is_stopped_for_a_while_still_gives_its_result",
        "test_stopped.py::test_a_process_that_stays_stopped_runs_out_of_time_and_the_agent_is_healthy",
        "test_warm_parents.py::test_a_process_is_started_where_its_parent_is_stopped",
    ),
}


def test_every_fault_is_listed():
    assert sorted(FAULTS) == list(range(1, 29))


@pytest.mark.parametrize("number", sorted(FAULTS))
def test_the_tests_of_each_fault_exist(number):
    behaviour, *tests = FAULTS[number]
    assert behaviour
    assert tests
    for test in tests:
        file_name, _, name = test.partition("::")
        texts = [path.read_text() for path in pathlib.Path(TESTS).rglob(file_name)]
        assert any(re.search(rf"^ *def {name}\(", text, re.MULTILINE) for text in texts), test
