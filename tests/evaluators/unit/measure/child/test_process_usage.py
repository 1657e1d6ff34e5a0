from vitsearch_agent.measure.child import process_usage
from vitsearch_agent.measure.child.process_usage import SchedulerTimes, scheduler_times


def test_the_high_water_mark_is_read_in_decimal_megabytes(tmp_path):
    (tmp_path / "status").write_text("Name:\tpython\nVmHWM:\t   1000 kB\nVmRSS:\t 500 kB\n")
    assert process_usage.peak_rss_mb(str(tmp_path)) == (1.024, None)
    assert process_usage.current_rss_mb(str(tmp_path)) == (0.512, None)


def test_missing_values_have_a_reason(tmp_path):
    reading = process_usage.peak_rss_mb(str(tmp_path))
    assert reading.value_mb is None
    assert "cannot be read" in reading.reason
    (tmp_path / "status").write_text("Name:\tpython\n")
    assert "has no VmHWM" in process_usage.peak_rss_mb(str(tmp_path)).reason
    assert "cannot be written" in process_usage.reset_peak(str(tmp_path / "none"))


def test_a_reset_writes_5_to_clear_refs(tmp_path):
    (tmp_path / "clear_refs").write_text("")
    assert process_usage.reset_peak(str(tmp_path)) is None
    assert (tmp_path / "clear_refs").read_text() == "5"


def write_task(root, task, content):
    folder = root / "task" / task
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "schedstat").write_text(content)


def test_times_of_all_threads_are_summed(tmp_path):
    write_task(tmp_path, "1", "1000000000 500000000 3\n")
    write_task(tmp_path, "2", "2000000000 0 1\n")
    before = scheduler_times(str(tmp_path))
    assert before == (3.0, 0.5, None)
    write_task(tmp_path, "2", "3000000000 250000000 1\n")
    assert scheduler_times(str(tmp_path)).since(before) == (1.0, 0.25, None)


def test_a_kernel_without_statistics_gives_a_reason(tmp_path):
    (tmp_path / "task" / "1").mkdir(parents=True)
    times = scheduler_times(str(tmp_path))
    assert times.cpu_s is None
    assert "no scheduler statistics" in times.reason
    assert SchedulerTimes(1.0, 1.0, None).since(times).cpu_s is None
    assert times.since(SchedulerTimes(1.0, 1.0, None)).reason
