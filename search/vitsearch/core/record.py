"""What became of a trial: the record that is stored with it and everything else is derived from.

    outcome        Optuna is told                          counts as trained   later
    confirmed      COMPLETE, values, constraints           yes
    duplicate      PRUNED: its twin is still under way     no                  capped in a row
    (with a twin)  as that trial, values looked up         no                  capped in a row
    infeasible     PRUNED, constraints, reason             no                  again when limits change
    hopeless       PRUNED, reason                          no                  again when the cap changes
    not_promoted   PRUNED, proxy, reason                  no                  goes on when the front moves
    does_not_fit   PRUNED, constraint ``fits``             no                  asked of the device again
    off_space      PRUNED, constraint ``in_space``         no                  a choice the file dropped
    failed         FAIL with stage, kind, message          no                  only with --retry-failed

Transient faults (network, reboot, a lost node) and a killed driver tell Optuna nothing: the trial
stays open and goes on.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from vitsearch.core.plan import Plan

Outcome = Literal[
    "confirmed", "duplicate", "infeasible", "dominated", "not_promoted", "does_not_fit", "off_space", "failed"
]
PRUNED: frozenset[Outcome] = frozenset(
    {"duplicate", "infeasible", "dominated", "not_promoted", "does_not_fit", "off_space"}
)

Values = dict[str, float | None]
Errors = dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Keys:
    """Where the ledger keeps what this trial is made of."""

    weights_key: str
    graph_key: str
    artifact_key: str | None
    device_id: str

    @property
    def identity(self) -> str:
        """Two trials with the same identity are one plan."""
        return f"{self.weights_key}:{self.graph_key}"


@dataclass(frozen=True)
class ProxyScore:
    """Rung 0: accuracy and divergence (nats) of the refitted, untrained model; accuracy that was foretold."""

    accuracy: float
    kl: float
    forecast: float


@dataclass(frozen=True)
class Record:
    """One trial's story. ``values`` and ``errors`` are those of the last measurement of this trial
    (the screen's when it was never trained); a metric that was not measured is None."""

    outcome: Outcome
    plan: Plan
    reason: str = ""
    keys: Keys | None = None
    screen: Values = field(default_factory=dict)
    values: Values = field(default_factory=dict)
    errors: Errors = field(default_factory=dict)
    constraints: dict[str, float] = field(default_factory=dict)
    proxy: ProxyScore | None = None
    rung: int = 0
    duplicate_of: int | None = None
    failure: dict[str, str] | None = None

    @property
    def feasible(self) -> bool:
        return all(value <= 0.0 for value in self.constraints.values())

    @property
    def trained(self) -> bool:
        """Counts towards ``search.trials``: a duplicate shows its twin's values and counts nothing."""
        return self.outcome == "confirmed" and self.duplicate_of is None

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {
            "plan": self.plan.to_json(),
            "errors": {name: list(pair) for name, pair in self.errors.items()},
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Record:
        return cls(
            **value
            | {
                "plan": Plan.from_json(value["plan"]),
                "keys": Keys(**value["keys"]) if value["keys"] else None,
                "proxy": ProxyScore(**value["proxy"]) if value["proxy"] else None,
                "errors": {name: (low, high) for name, (low, high) in value["errors"].items()},
            }
        )
