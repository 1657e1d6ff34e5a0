"""What a run needs beside this machine, tried before it starts: the database, the place of its files, devices, the hub
of weights, and the study that it goes on with. Nothing is changed: what is not there yet is not made."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from vitsearch.core.device_identity import DeviceIdentity
from vitsearch.devices.connection import connect, known_device
from vitsearch.devices.registry import KnownDevice
from vitsearch.devices.token_destinations import remember_destinations
from vitsearch.errors import DeviceLost, NoAnswer, NotReady, StoreError, StudyError, VitsearchError, WeightsError
from vitsearch.search.check.probes import Answer, Probe, ask_all
from vitsearch.search.plan_requests import stored_leaders
from vitsearch.search.starting_weights import starts
from vitsearch.space import SearchSpace
from vitsearch.storage import remote_files
from vitsearch.storage.addresses import masked
from vitsearch.storage.ledger import sqlite_file, try_database
from vitsearch.storage.stores import planned_address, refuse_other_place, store_at, try_store
from vitsearch.study.database.opening import holds_studies, study_names
from vitsearch.study.identity import refuse_other_space
from vitsearch.study.study import Study
from vitsearch_agent.errors import AgentError, Unauthorized, UntrustedDevice

if TYPE_CHECKING:
    from vitsearch.backbones.hub import HubWeights

ADVICE = re.compile(r"\s+Is the server running .*?\?", re.DOTALL)
"""Of PostgreSQL's client, which knows less of the space file than we do."""
STARTING_S = 3.0
"""An agent that refuses connections may just be starting: it is asked again for so long."""
AGAIN_S = 0.5
ANSWER_S, PATIENT_S = 5.0, 30.0
"""Longest wait for an answer; and of a run, where nothing else is wrong: a board may be slow to describe itself."""
HEAD_SHARE = 0.8
"""Of the wait for the hub, for one file."""
SILENT_DATABASE = "is it up, and are host, port, database, user and password in 'storage' right?"
SILENT_FILES = "is the server up, and are 'files' and the keys for it in your environment (AWS_..., GOOGLE_...) right?"
SILENT_DISK = "is its disk away?"
SILENT_DEVICE = "switch it on and start its agent there (vitsearch-agent serve), or correct its url in 'devices'"
WRITTEN = "a small file was written and deleted"
DATABASE, FILES, STUDY, HUB = "storage", "files", "study", "weights of the hub"


@dataclass(frozen=True)
class Connections:
    """What everything that was asked has answered."""

    answers: tuple[Answer, ...]

    @property
    def problems(self) -> tuple[VitsearchError, ...]:
        return tuple(
            answer.error for answer in self.answers if answer.error is not None and not self._has_another(answer)
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What is away without need."""
        return tuple(
            f"{answer.error}; a run works without it"
            for answer in self.answers
            if answer.error is not None and self._has_another(answer)
        )

    def require(self, where: str) -> None:
        """Raise the only problem, or one `NotReady` with all of them."""
        if len(self.problems) == 1:
            raise self.problems[0]
        if self.problems:
            raise NotReady(where, self.problems)

    def describe(self) -> str:
        return "\n".join(answer.describe() for answer in self.answers if answer.text is not None)

    def _has_another(self, failed: Answer) -> bool:
        pool = failed.probe.one_of
        return pool is not None and any(answer.text for answer in self.answers if answer.probe.one_of == pool)


def try_connections(space: SearchSpace, without: Container[str] = ()) -> Connections:
    """Ask everything that a run on this machine needs, but what it is done `without`, at the same time, for some
    seconds."""
    remember_destinations(space.devices, os.environ)
    probes = [probe for probe in (*probes_of_driver(space), *hub_probes(space)) if probe.what not in without]
    return Connections(ask_all(probes, ANSWER_S))


def try_patiently(probes: Sequence[Probe], note: Callable[[str], None]) -> Connections:
    """Ask for some seconds. What has not answered then is asked once more, for longer, unless something else is wrong,
    of which a person should know at once."""
    tried = Connections(ask_all(probes, ANSWER_S))
    if not tried.problems or not all(isinstance(problem, NoAnswer) for problem in tried.problems):
        return tried
    for problem in tried.problems:
        note(f"{problem}; asking once more, for {PATIENT_S:g} s")
    return Connections(ask_all(probes, PATIENT_S))


def probes_of_driver(space: SearchSpace) -> Iterator[Probe]:
    """What the process needs that drives a search, wherever its workers run."""
    yield from _storage_probes(space)
    yield from _device_probes(space, os.environ)


# ---- database and files


def _storage_probes(space: SearchSpace) -> Iterator[Probe]:
    shown, files = masked(space.storage), planned_address(space.storage, space.files, os.environ)
    if "://" in files:
        remote_files.missing(files)  # imports what reaches it, before the clock runs
    database = SILENT_DISK if sqlite_file(space.storage) else SILENT_DATABASE
    yield Probe(DATABASE, shown, partial(_database, space), database)
    reach = SILENT_FILES if "://" in files else SILENT_DISK
    if space.files:
        yield Probe(FILES, files, partial(_place, files), reach)
    else:  # the database may name another place
        yield Probe(FILES, files, partial(_files, space, files), reach, DATABASE)
    yield Probe(STUDY, repr(space.study), partial(_study, space), database, DATABASE)


def _database(space: SearchSpace) -> str:
    try:
        has_results = try_database(space.storage)
    except StoreError as error:
        raise _with(error, "" if sqlite_file(space.storage) else SILENT_DATABASE) from error
    if not has_results:
        return "can be used; it has no studies yet"
    if space.files:
        refuse_other_place(space.storage, space.files)
    return "answers"


def _place(address: str) -> str:
    try:
        store_at(address).try_out()
    except StoreError as error:
        raise _with(error, SILENT_FILES if "://" in address else "") from error
    return WRITTEN


def _files(space: SearchSpace, planned: str) -> str:
    try:
        store = try_store(space.storage, os.environ)
    except StoreError as error:
        raise _with(error, SILENT_FILES if "://" in str(error) else "") from error
    return WRITTEN if store.address == planned else f"{WRITTEN} in {store.address}, which the database names"


def _study(space: SearchSpace) -> str:
    study = _existing(space)
    if study is None:
        return "a new one"
    with closing(study):
        refuse_other_space(study, space)
    return "exists, with the same objectives, task, data, baseline and devices"


def _existing(space: SearchSpace) -> Study | None:
    """The study of the file, to read. None where there is none yet."""
    file = sqlite_file(space.storage)
    if file is not None and not (file.exists() and file.stat().st_size):
        return None
    if not holds_studies(space.storage) or space.study not in study_names(space.storage):
        return None
    return Study.read(space.storage, space.study)


def _with(error: StoreError, remedy: str) -> StoreError:
    text = " ".join(ADVICE.sub("", str(error)).split())
    return StoreError(f"{text}; {remedy}" if remedy else text)


# ---- devices


def _device_probes(space: SearchSpace, environ: Mapping[str, str]) -> Iterator[Probe]:
    for name, device in space.devices.items():
        for board, section in device.boards_of(name).items():
            what = f"device {board}" if board == name else f"device {name}, board {board}"
            pool = name if device.boards else None
            try:
                way = known_device(board, section, environ)
            except VitsearchError as error:
                yield Probe(
                    what, section.url or "of unknown address", partial(_raise, error), SILENT_DEVICE, one_of=pool
                )
            else:
                yield Probe(what, way.url, partial(_device, what, board, way), SILENT_DEVICE, one_of=pool)


def _raise(error: VitsearchError) -> str:
    raise error


def _device(what: str, name: str, way: KnownDevice) -> str:
    end = time.monotonic() + STARTING_S
    with connect(name, way, "check", timeout_s=PATIENT_S) as client:
        while True:
            try:
                info = client.device()
                break
            except Unauthorized as error:
                again = f"with the right one, run: vitsearch devices add {way.url} {name}"
                raise DeviceLost(f"{what}: {way.url} refuses the token ({error}); {again}") from error
            except UntrustedDevice as error:
                raise DeviceLost(f"{what}: {error}") from error
            except AgentError as error:
                if not error.transient or time.monotonic() + AGAIN_S > end:
                    remedy = f"; {SILENT_DEVICE}" if error.transient else ""
                    raise DeviceLost(f"{what}: {error}{remedy}") from error
                time.sleep(AGAIN_S)
    away = f", in quarantine: {info.quarantined}" if info.quarantined else ""
    return f"answers: {DeviceIdentity.of(info).describe(name)}{away}"


# ---- weights


def hub_probes(space: SearchSpace) -> Iterator[Probe]:
    """None where no weights of the hub are asked for, or all of them lie here."""
    named = list(dict.fromkeys(start.backbone for start in starts(space) if start.section.weights == "hub"))
    if not named:
        return
    from vitsearch.backbones.hub import AWAY, hub_weights  # torch: only for those who need the hub

    wanted: list[HubWeights] = []
    unknown: list[str] = []
    for name in named:
        try:
            weights = hub_weights(name)
        except WeightsError as error:
            unknown.append(str(error))
        else:
            wanted += [] if weights.is_here else [weights]
    if wanted or unknown:
        where = ", ".join(dict.fromkeys(weights.server for weights in wanted)) or "timm"
        yield Probe(HUB, where, partial(_hub, space, wanted, unknown), AWAY)


def _hub(space: SearchSpace, wanted: Sequence[HubWeights], unknown: Sequence[str]) -> str:
    """Ask for each file. Weights that fail for one reason are named together."""
    from vitsearch.backbones.hub import AWAY

    probes = [Probe(weights.backbone, weights.where, partial(_head, weights), AWAY) for weights in wanted]
    failed = [answer for answer in ask_all(probes, HEAD_SHARE * ANSWER_S) if answer.error is not None]
    stored = _trained_bases(space) if failed else set()
    missing = [answer for answer in failed if answer.probe.what not in stored]
    if unknown or missing:
        is_final = unknown or any(isinstance(answer.error, WeightsError) for answer in missing)
        text = f"{HUB}: {'; and '.join([*unknown, *_together(missing)])}"
        raise WeightsError(text) if is_final else NoAnswer(text)
    if failed:
        return "not reached, but the study has its unpruned models already"
    return f"has those of {', '.join(weights.backbone for weights in wanted)}"


def _together(failed: Iterable[Answer]) -> Iterator[str]:
    """Name weights that fail for one reason together."""
    by_reason: dict[str, list[str]] = {}
    for answer in failed:
        reason = str(answer.error).removeprefix(f"{answer.probe.what}: {answer.probe.where} ")
        by_reason.setdefault(reason, []).append(answer.probe.what)
    yield from (f"{', '.join(names)} (weights: hub): {reason}" for reason, names in by_reason.items())


def _head(weights: HubWeights) -> str:
    weights.ask(HEAD_SHARE * ANSWER_S)
    return "has them"


def _trained_bases(space: SearchSpace) -> set[str]:
    """The backbones whose unpruned models the study has: their weights of the hub are no longer needed."""
    try:
        study = _existing(space)
    except (StoreError, StudyError):
        return set()
    if study is None:
        return set()
    with closing(study):
        return {plan.backbone for plan in stored_leaders(study)}
