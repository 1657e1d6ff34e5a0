"""Whose turn it is: owners are served least recently served first, and interrupted jobs before all others."""

import heapq
import sqlite3
from typing import Dict, List, Mapping, Sequence

# The same order as SQL, for the one job that is taken now.
NEXT = """
SELECT jobs.* FROM jobs LEFT JOIN owners ON owners.study = jobs.study
WHERE state = 'queued'
ORDER BY interruptions <> '[]' DESC, COALESCE(owners.served, 0), seq LIMIT 1
"""


def in_order(jobs: Sequence[sqlite3.Row], served: Mapping[str, int]) -> List[sqlite3.Row]:
    """Return active jobs, given oldest first: what runs, then as NEXT will take them one after another."""
    queued = [job for job in jobs if job["state"] == "queued"]
    interrupted = [job for job in queued if job["interruptions"] != "[]"]
    others = [job for job in queued if job["interruptions"] == "[]"]
    last_served = dict(served)
    order = [job for job in jobs if job["state"] == "running"]
    return order + _take_turns(interrupted, last_served) + _take_turns(others, last_served)


def _take_turns(jobs: Sequence[sqlite3.Row], last_served: Dict[str, int]) -> List[sqlite3.Row]:
    """Order jobs, given oldest first, and bring `last_served` up to date."""
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
