"""The sections of a space file besides `task` and `space`: limits, devices, measurements, search and resources.

The text under each field documents the key, for readers of this module and, through the JSON Schema, for editors.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, WithJsonSchema, field_validator

from vitsearch.space.section_base import Count, Positive, Section, Seed
from vitsearch.space.value_types import (
    Either,
    Int,
    Number,
    Text,
    agent_url,
    certificate_digest,
    duration_up_to,
    list_or,
    problem,
    seconds,
    token_name,
    word_or,
)
from vitsearch.storage.addresses import shown_argument


def boards_by_name(boards: tuple[str, ...]) -> dict[str, BoardSection]:
    """Boards that are given by the names under which they are known, or by their addresses: these are named by host
    and port."""
    _refuse_equal(boards)
    return {_name_of(board): BoardSection(url=agent_url(board) if "://" in board else None) for board in boards}


def _refuse_equal(boards: tuple[str, ...]) -> None:
    names = [_name_of(board) for board in boards]
    if twice := next((board for place, board in enumerate(boards) if names[place] in names[:place]), None):
        raise problem(f"{twice!r} is listed twice, or has the name of another board; give boards names of their own")


def _name_of(board: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", board.partition("://")[2].lower()).strip("-") if "://" in board else board


_Fingerprint = Annotated[Text, AfterValidator(certificate_digest)]
_DURATION = WithJsonSchema({"type": ["string", "number"]})
_UpTo10Minutes = Annotated[float, BeforeValidator(duration_up_to(10)), _DURATION]
_UpTo1Hour = Annotated[float, BeforeValidator(duration_up_to(60)), _DURATION]
_UpTo2Hours = Annotated[float, BeforeValidator(duration_up_to(120)), _DURATION]
_UpTo7Days = Annotated[float, BeforeValidator(duration_up_to(7 * 24 * 60)), _DURATION]


class LimitSection(Section):
    """A bound that models must satisfy, absolute or relative to the baseline."""

    min: Number | None = None
    """Smallest allowed value, for metrics where more is better."""
    max: Positive | None = None
    """Largest allowed value, for metrics where less is better."""
    max_drop: Annotated[Number, Field(ge=0)] | None = None
    """Largest allowed loss of a metric of the task against the baseline; of accuracy 0.02 is two percentage points."""
    max_ratio: Positive | None = None
    """Largest allowed value as a multiple of the baseline's, for metrics where less is better."""
    min_ratio: Positive | None = None
    """Smallest allowed value as a multiple of the baseline's, for metrics where more is better (throughput_ips)."""


class BoardSection(Section):
    """A device with a running agent. Keys that are left out come from 'vitsearch devices add' under the same name."""

    url: Annotated[Text, AfterValidator(agent_url)] | None = None
    """Address of the agent, such as https://nano.local:8470."""
    token: Annotated[
        str | None, BeforeValidator(token_name), WithJsonSchema({"type": "string", "pattern": "^env:VITSEARCH_"})
    ] = None
    """env:VITSEARCH_NAME, the environment variable that holds the agent's token. It goes to the url beside it alone."""
    fingerprint: _Fingerprint | None = None
    """Fingerprint of the agent's certificate, as 'vitsearch-agent serve' prints it."""

    @field_validator("token")
    @classmethod
    def _for_one_address(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("url", "") is None:
            raise problem("needs the url of the device beside it, the one address that gets the token")
        return value

    @field_validator("fingerprint")
    @classmethod
    def _of_a_certificate(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and (info.data.get("url") or "").startswith("http:"):
            raise problem("an http address has no certificate; write https, or leave the fingerprint out")
        return value


_Boards = Annotated[
    dict[str, BoardSection],
    Either(
        list_or("<mapping>"),
        {
            "<list>": Annotated[tuple[Text, ...], AfterValidator(boards_by_name)],
            "<mapping>": dict[str, BoardSection],
        },
    ),
]


class DeviceSection(BoardSection):
    """A device with a running agent, or several boards of one class that share its work. Keys that are left out come
    from 'vitsearch devices add' under the same name."""

    boards: _Boards = {}
    """Boards of one class, by name, or a list of names that 'vitsearch devices' knows and of addresses. They share the
    measurements, and one that falls silent is replaced."""
    accuracy_images: Annotated[Int, Field(ge=0, le=10**5)] = 500
    """Number of validation images that the device itself classifies with each model of the front; 0 for none."""
    deadline_s: _UpTo7Days = Field(default=900.0, alias="deadline")
    """How long a run that has no other work waits for a device that does not answer (default: 15m)."""

    @field_validator("boards")
    @classmethod
    def _instead_of_an_address(cls, value: dict[str, BoardSection], info: ValidationInfo) -> dict[str, BoardSection]:
        if value and info.data.get("url") is not None:
            raise problem("the device has a url of its own; put it among the boards")
        return value

    def boards_of(self, name: str) -> dict[str, BoardSection]:
        """The boards of the device called `name`: itself, where it is one."""
        return self.boards or {name: self}


def _device_at(address: str) -> DeviceSection:
    return DeviceSection(url=agent_url(address))


def _device_of_boards(boards: tuple[str, ...]) -> DeviceSection:
    _refuse_equal(boards)
    return DeviceSection.model_validate({"boards": boards})


def _devices_listed(names: tuple[str, ...]) -> dict[str, DeviceSection]:
    """A device without keys of its own; several names are boards of one class, called like the first."""
    return {} if not names else {names[0]: DeviceSection() if len(names) == 1 else _device_of_boards(names)}


def _kind_of_device(value: Any) -> str:
    return "<word>" if isinstance(value, str) else "<list>" if isinstance(value, list | tuple) else "<mapping>"


_Device = Annotated[
    DeviceSection,
    Either(
        _kind_of_device,
        {
            "<word>": Annotated[Text, AfterValidator(_device_at)],
            "<list>": Annotated[tuple[Text, ...], Field(min_length=1), AfterValidator(_device_of_boards)],
            "<mapping>": DeviceSection,
        },
    ),
]
Devices = Annotated[
    dict[str, DeviceSection],
    Either(
        list_or("<mapping>"),
        {
            "<list>": Annotated[tuple[Text, ...], AfterValidator(_devices_listed)],
            "<mapping>": dict[str, _Device],
        },
    ),
]


class FleetWeights(Section):
    """A mean over the devices of a fleet."""

    weights: dict[str, Positive]
    """How much each device counts, by name: such as its share of all the devices that are sold."""


FleetRule = Annotated[
    FleetWeights | Literal["worst"],
    Either(word_or("<mapping>"), {"<word>": Literal["worst"], "<mapping>": FleetWeights}),
]


class Measure(Section):
    """How the device measures. Each phase adds its length to the measurement of every confirmed model."""

    threads: Annotated[Int, Field(ge=1, le=256)] = 1
    """Number of threads of one inference; space.threads lists several to search."""
    throughput_s: _UpTo1Hour = Field(default=5.0, alias="throughput")
    """Length of the throughput phase (for throughput_ips): as many streams as the cores that the agent may use have
    room for, each with the threads of one inference."""
    soak_s: _UpTo2Hours = Field(default=300.0, alias="soak")
    """Length of the load without pauses before the sustained latency is measured (for latency_ms_sustained_p50)."""
    power_s: _UpTo1Hour = Field(default=30.0, alias="power")
    """Length of the load during which the power meter is read (for the metrics of energy and power)."""
    idle_s: _UpTo10Minutes = Field(default=10.0, alias="idle")
    """Length of the idle periods before and after that load, which give the idle power to subtract (for the metrics of
    energy and power)."""
    start_max_c: Annotated[Number, Field(ge=-40, le=150)] | None = None
    """Temperature in degrees Celsius that the device must cool down to before each measuring process (default: no
    waiting)."""
    cooldown_s: _UpTo1Hour = Field(default=300.0, alias="cooldown")
    """Longest wait for start_max_c; after it the measurement starts, and its result is flagged warm_start."""


DEFAULT_TRIALS = 12
UNLIMITED = 10**9


_Budget = Annotated[float | None, BeforeValidator(seconds), WithJsonSchema({"type": ["string", "number"]})]


class Search(Section):
    """Length and method of the search."""

    trials: Annotated[Int, Field(ge=0, le=UNLIMITED)] | None = None
    """Number of plans to train, in all runs of the study together; 0 for only the baseline and the leaderboard. Without
    it 12, or with a budget as many as fit into it."""
    budget_s: _Budget = Field(default=None, alias="budget")
    """Wall time of one run: 8h, 30m, seconds, or none. With it, the plan of the largest gain per second is trained. On
    the command line it replaces the trials of the file, unless they are given there too."""
    trainer_budget_s: _Budget = Field(default=None, alias="trainer_budget")
    """Time that all trainers together may work, in all runs of the study: 40h, or none. The search then ends as with
    budget."""
    device_budget_s: _Budget = Field(default=None, alias="device_budget")
    """The same of devices."""
    sampler: Literal["auto", "gp", "tpe", "nsga2", "random"] = "auto"
    """How plans are proposed: auto is our own, which models accuracy and costs; gp, tpe and nsga2 are Optuna's;
    random draws uniformly."""
    seed: Seed = 0
    """Seed of the sampler and of the fine-tuning."""
    candidates: Count = 3
    """Number of plans to measure per plan to train."""
    least_gain: Annotated[Number, Field(gt=0, le=1)] | None = None
    """Share of the hypervolume that a plan must be expected to add to be worth a training (default: 0.001). The search
    ends when no plan is left that may add as much: 0.01 ends it sooner."""
    prior: tuple[Text, ...] = ()
    """Finished studies of the same task whose trainings say how far a plan recovers: the forecasts begin with their
    line and its errors, and with none of their figures. Names, .db files or URLs."""
    margin: Annotated[Number, Field(ge=0, le=1)] = 0.01
    """Margin on the best accuracy so far: a plan that would be dominated even at that accuracy is not trained."""
    duplicates_in_a_row: Count = 20
    """After this many proposals in a row that repeat a known plan, a random plan is tried."""

    @property
    def safe_prior(self) -> list[str]:
        """The earlier studies with the passwords of their databases masked. Only this form is printed or stored."""
        return list(map(shown_argument, self.prior))

    @property
    def most_trainings(self) -> int:
        """How many plans are trained at most."""
        if self.trials is not None:
            return self.trials
        return DEFAULT_TRIALS if self.budget_s is None else UNLIMITED

    @property
    def wanted(self) -> int | None:
        """How many plans are to be trained; None where only the budget limits them."""
        return None if self.most_trainings == UNLIMITED else self.most_trainings


class Ship(Section):
    """What 'vitsearch ship' does to a model before it is shipped."""

    epochs: Annotated[Int, Field(ge=1, le=10_000)] | None = None
    """Number of epochs of a last, longer training, from the start (default: none). The better model on the validation
    images is shipped: the one of this training or the one of the search."""


class ResourcesSection(Section):
    """Resources that trainings may use. A run on a machine that lacks them stops at the start with a message."""

    trainers: Annotated[
        int | Literal["auto"], Either(word_or("<number>"), {"<number>": Count, "<word>": Literal["auto"]})
    ] = "auto"
    """Number of trainings at the same time; auto: as many as the cores allow, 1 on a Ray cluster."""
    cpus: Count = 1
    """Number of cores for each training."""
    gpus: Annotated[
        float | Literal["auto"],
        Either(word_or("<number>"), {"<number>": Annotated[Number, Field(ge=0, le=64)], "<word>": Literal["auto"]}),
    ] = "auto"
    """Number of GPUs for each training; 0.5 lets two trainings share one, 0 trains on the CPU; auto: the GPUs of the
    machine, shared."""
