"""The order of jobs: interrupted jobs first, then one owner after another, the least recently served first."""

import heapq
import sqlite3
from typing import Dict, List, Mapping, Sequence

# The same order in SQL, for the next job only.
NEXT = """
SELECT jobs.* FROM jobs LEFT JOIN owners ON owners.study = jobs.study
WHERE state = 'queued'
ORDER BY interruptions <> '[]' DESC, COALESCE(owners.served, 0), seq LIMIT 1
"""


def in_order(jobs: Sequence[sqlite3.Row], served: Mapping[str, int]) -> List[sqlite3.Row]:
    """Return active jobs, given oldest first: the running one, then the others in the order of NEXT."""
    queued = [job for job in jobs if job["state"] == "queued"]
    interrupted = [job for job in queued if job["interruptions"] != "[]"]
    others = [job for job in queued if job["interruptions"] == "[]"]
    last_served = dict(served)
    order = [job for job in jobs if job["state"] == "running"]
    return order + _take_turns(interrupted, last_served) + _take_turns(others, last_served)


def _take_turns(jobs: Sequence[sqlite3.Row], last_served: Dict[str, int]) -> List[sqlite3.Row]:
    """Return jobs, given oldest first, in the order of service, and update `last_served`."""
    waiting: Dict[str, List[sqlite3.Row]] = {}
    for job in reversed(jobs):
        waiting.setdefault(job["study"], []).append(job)
    heap = [(last_served.get(study, 0), own[-1]["seq"], study) for study, own in waiting.items()]
    heapq.heapify(heap)
    now = max(last_served.values(), default=0)
    order = []
    while heap:
        study = heapq.heappop(heap)[2]
        order.append(waiting[study].pop())
        now += 1
        last_served[study] = now
        if waiting[study]:
            heapq.heappush(heap, (now, waiting[study][-1]["seq"], study))
    return order
