"""What the measuring children of a device are kept from. Every child imports this file, so it is small."""

from typing import Any, Dict, NamedTuple

from vitsearch_agent.base import json_reader


class Restriction(NamedTuple):
    """Whether measuring children are kept from something of the agent, and by what, or why not.

    `name` is `user` (they run as another one), `files` (token, queue, configuration), `network` or `processes` (limits,
    priorities and signals of other processes, permissions of files, and what outlives a process without a file).
    """

    name: str
    holds: bool
    detail: str

    def to_json(self) -> Dict[str, Any]:
        return dict(self._asdict())

    @classmethod
    def from_json(cls, value: Any, where: str = "restriction") -> "Restriction":
        return cls(**json_reader.read_object(value, _RESTRICTION, where))


_RESTRICTION = {"name": json_reader.text, "holds": json_reader.boolean, "detail": json_reader.text}
