from vitsearch_evaluators.measure.child.scheduler_times import SchedulerTimes, scheduler_times


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
