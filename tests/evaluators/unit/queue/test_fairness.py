"""The listed order is the order in which jobs are taken."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vitsearch_agent.queue.job_queue import JobQueue
from vitsearch_agent.wire.protocol import SCREEN, BlobRef, JobSpec, Owner

SPEC = JobSpec("measure", (BlobRef("model.onnx", "ab" * 32, 1),), "noop", {}, SCREEN, 0)
JOBS = st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=8)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=JOBS, after=JOBS)
def test_jobs_are_listed_in_the_order_of_service(before, after):
    queue = JobQueue(":memory:")
    number = 0
    for jobs, taken in ((before, len(before) // 2), (after, len(after))):
        for study, interrupted in jobs:
            number += 1
            queue.put(f"{number:064x}", SPEC, Owner(study))
            if interrupted:
                queue._table.set(f"{number:064x}", interruptions='["agent"]')
        for _ in range(taken):
            expected = [status.id for status in queue.active() if status.state == "queued"][0]
            job = queue.claim(0.0)
            assert job.id == expected
            queue.cancel(job.id)
            queue.release(job.id)
    queue.close()
