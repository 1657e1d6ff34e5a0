"""The sections of a space file besides ``task`` and ``space``: limits, devices, measurements, search and resources.

The text under each field documents the key, for readers of this module and, through the JSON Schema, for editors.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, WithJsonSchema, field_validator

from vitsearch.space.kinds import (
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
from vitsearch.space.section_base import Count, Positive, Section, Seed

_Fingerprint = Annotated[Text, AfterValidator(certificate_digest)]
_DURATION = WithJsonSchema({"type": ["string", "number"]})
_UpTo10Minutes = Annotated[float, BeforeValidator(duration_up_to(10)), _DURATION]
_UpTo1Hour = Annotated[float, BeforeValidator(duration_up_to(60)), _DURATION]
_UpTo2Hours = Annotated[float, BeforeValidator(duration_up_to(120)), _DURATION]
_UpTo7Days = Annotated[float, BeforeValidator(duration_up_to(7 * 24 * 60)), _DURATION]


class Limit(Section):
    """A bound that every shown model keeps, absolute or against the baseline."""

    min: Number | None = None
    """At least this much, for metrics where more is better."""
    max: Positive | None = None
    """At most this much, for metrics where less is better."""
    max_drop: Annotated[Number, Field(ge=0, le=1)] | None = None
    """Accuracy that may be lost against the baseline: 0.02 is two points."""
    max_ratio: Positive | None = None
    """At most this share of the baseline's cost."""
    min_ratio: Positive | None = None
    """At least this many times what the baseline reaches, for metrics where more is better: throughput_ips."""


class Device(Section):
    """A board with a running agent. What is left out was stored under its name by 'vitsearch devices add'."""

    url: Annotated[Text, AfterValidator(agent_url)] | None = None
    """Address of the agent, such as https://nano.local:8470."""
    token: Annotated[
        str | None, BeforeValidator(token_name), WithJsonSchema({"type": "string", "pattern": "^env:"})
    ] = None
    """env:NAME, the environment variable that holds the agent's token."""
    fingerprint: _Fingerprint | None = None
    """Digest of the agent's certificate, as 'vitsearch-agent serve' prints it."""
    accuracy_images: Annotated[Int, Field(ge=0, le=10**5)] = 500
    """Validation images that it classifies itself with each model of the front; 0: none."""
    deadline_s: _UpTo7Days = Field(default=900.0, alias="deadline")
    """How long a run with nothing else left to do waits for it while it does not answer, such as 15m."""

    @field_validator("fingerprint")
    @classmethod
    def _of_a_certificate(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and (info.data.get("url") or "").startswith("http:"):
            raise problem("is that of a certificate, and an http address has none; write https, or leave it out")
        return value


def devices_by_name(names: tuple[str, ...]) -> dict[str, Device]:
    return {name: Device() for name in names}


Devices = Annotated[
    dict[str, Device],
    Either(
        list_or("<mapping>"),
        {
            "<list>": Annotated[tuple[Text, ...], AfterValidator(devices_by_name)],
            "<mapping>": dict[str, Device],
        },
    ),
]


class Measure(Section):
    """How a device measures; phases cost their time for each model that is confirmed."""

    threads: Annotated[Int, Field(ge=1, le=256)] = 1
    """Threads of one inference."""
    throughput_s: _UpTo1Hour = Field(default=5.0, alias="throughput")
    """For throughput_ips: as many inferences at a time as the agent has cores, for so long."""
    soak_s: _UpTo2Hours = Field(default=300.0, alias="soak")
    """For latency_ms_sustained_p50: load without a pause before it is taken, such as 10m."""
    power_s: _UpTo1Hour = Field(default=30.0, alias="power")
    """For energy_mj and power_w: load while the device's meter is read."""
    idle_s: _UpTo10Minutes = Field(default=10.0, alias="idle")
    """For energy_mj and power_w: rest before and after, which the net energy is taken against."""
    start_max_c: Annotated[Number, Field(ge=-40, le=150)] | None = None
    """Degrees Celsius that the device cools down to before each measuring process; none waits for nothing."""
    cooldown_s: _UpTo1Hour = Field(default=300.0, alias="cooldown")
    """It waits no longer than this for that; the result is then flagged warm_start."""


class Search(Section):
    """How long and how the search runs."""

    trials: Annotated[Int, Field(ge=0, le=10**9)] = 12
    """Plans that the study trains, in all its runs together; 0 for the baseline and the leaderboard alone."""
    timeout_s: Annotated[float | None, BeforeValidator(seconds), WithJsonSchema({"type": ["string", "number"]})] = (
        Field(default=None, alias="timeout")
    )
    """Wall time of one run: 8h, 30m, seconds, or none."""
    sampler: Literal["auto", "tpe", "nsga2", "random"] = "auto"
    seed: Seed = 0
    candidates: Count = 3
    """Plans that are measured for each one that is trained."""
    margin: Annotated[Number, Field(ge=0, le=1)] = 0.01
    """Added to the best accuracy known when a plan is judged hopeless before it is trained."""
    duplicates_in_a_row: Count = 20
    """After so many in a row that came to a plan that is known, one that nobody asked for is tried."""


class Resources(Section):
    """What trainings may use; a machine that lacks it is told so at the start."""

    trainers: Annotated[
        int | Literal["auto"], Either(word_or("<number>"), {"<number>": Count, "<word>": Literal["auto"]})
    ] = "auto"
    """Trainings at the same time."""
    cpus: Count = 1
    """Cores for each."""
    gpus: Annotated[
        float | Literal["auto"],
        Either(word_or("<number>"), {"<number>": Annotated[Number, Field(ge=0, le=64)], "<word>": Literal["auto"]}),
    ] = "auto"
    """GPUs for each; 0.5 lets two share one, 0 trains on the CPU; auto: those of the machine, shared."""
