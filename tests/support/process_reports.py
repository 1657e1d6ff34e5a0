"""Reports of measuring processes, as a child writes them."""

from vitsearch_agent.measure.child.phase_reports import ProcessReport


def process_report(wall_ms, wait_s=0.0, **changes):
    """A process whose runs took half of `wall_ms` of CPU time each, and waited `wait_s` for a processor."""
    plain = ProcessReport(
        wall_ms=tuple(wall_ms),
        cpu_ms=tuple(value / 2 for value in wall_ms),
        load_ms=10.0,
        first_inference_ms=5.0,
        peak_memory_mb=20.0,
        runtime_baseline_mb=40.0,
        gpu_memory_mb=None,
        scheduler_cpu_s=1.0,
        scheduler_wait_s=wait_s,
        sleeps=None,
        steady=True,
        runtime_version="1",
        options={},
        reasons={},
        batch=1,
        shapes={"images": (1, 8)},
    )
    return plain._replace(**changes)
