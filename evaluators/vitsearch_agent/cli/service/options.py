"""The options of the agent's service: given by the user, and stored in the installed service's file."""

import os
import re
from typing import Any, Dict, List, Mapping, NamedTuple, Optional

from vitsearch_agent.base import json_reader
from vitsearch_agent.errors import InvalidRequest
from vitsearch_agent.server import agent

PORT = 8470
USER = "vitsearch"
STATE = "/var/lib/vitsearch"
PORT_FILE = "listening.json"

_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}\Z")
_PATHS = ("state", "token_file", "tls_cert", "tls_key")


class ServiceOptions(NamedTuple):
    """The options of `serve`; `state` None is the default folder of the kind of service, `user` the account of a
    system-wide service."""

    host: str = "127.0.0.1"
    port: int = PORT
    state: Optional[str] = None
    token_file: Optional[str] = None
    tls: bool = False
    tls_cert: Optional[str] = None
    tls_key: Optional[str] = None
    insecure_plaintext: bool = False
    cpus: Optional[str] = None
    user: str = USER

    def with_options(self, overrides: Mapping[str, Any]) -> "ServiceOptions":
        """Return the options with `overrides`; paths become absolute, because a service starts in another folder.

        A TLS option cancels an earlier --insecure-plaintext, and the other way round.
        """
        more = dict(overrides)
        encrypted, plain = {"tls", "tls_cert", "tls_key"}, {"insecure_plaintext"}
        for now, before in ((encrypted, plain), (plain, encrypted)):
            if now & set(more) and not before & set(more):
                more.update({name: getattr(DEFAULT, name) for name in before})
        for name in _PATHS:
            if more.get(name) is not None:
                more[name] = os.path.abspath(more[name])
        return self._replace(**more)

    def checked(self) -> "ServiceOptions":
        """Return self; InvalidRequest for options with which the agent cannot start."""
        agent.wants_tls(self.settings(""))
        if not 1 <= self.port <= 65535:
            raise InvalidRequest(f"--port: expected 1 to 65535 for a service, got {self.port}")
        if not _USER.match(self.user) or self.user == "root":
            raise InvalidRequest(f"--user: expected the name of an unprivileged account, got {self.user!r}")
        for name, value in self._asdict().items():
            if isinstance(value, str) and not value.isprintable():
                raise InvalidRequest(f"--{name.replace('_', '-')}: {value!r} contains unprintable characters")
        return self

    def settings(self, state: str) -> agent.AgentSettings:
        """Return the settings of `serve` in this state folder."""
        return agent.AgentSettings(
            state=state,
            host=self.host,
            port=self.port,
            token_file=self.token_file,
            tls=self.tls,
            tls_cert=self.tls_cert,
            tls_key=self.tls_key,
            insecure_plaintext=self.insecure_plaintext,
            port_file=os.path.join(state, PORT_FILE),
        )

    def serve_arguments(self, state: str) -> List[str]:
        """Return the same settings as arguments of `vitsearch-agent`."""
        words = ["serve", "--host", self.host, "--port", str(self.port), "--state", state]
        words += ["--port-file", os.path.join(state, PORT_FILE)]
        for name in ("token_file", "tls_cert", "tls_key", "cpus"):
            value = getattr(self, name)
            if value is not None:
                words += [f"--{name.replace('_', '-')}", value]
        words += [f"--{name.replace('_', '-')}" for name in ("tls", "insecure_plaintext") if getattr(self, name)]
        return words

    def to_json(self) -> Dict[str, Any]:
        """Return the options that differ from the defaults."""
        return {name: value for name, value in self._asdict().items() if value != getattr(DEFAULT, name)}

    @classmethod
    def from_json(cls, value: Any, where: str = "installed") -> "ServiceOptions":
        return cls(**json_reader.read_object(value, _READERS, where, _READERS))


DEFAULT = ServiceOptions()

_READERS: Mapping[str, json_reader.Reader] = {
    "host": json_reader.text,
    "port": json_reader.integer(1, 65535),
    "state": json_reader.text,
    "token_file": json_reader.text,
    "tls": json_reader.boolean,
    "tls_cert": json_reader.text,
    "tls_key": json_reader.text,
    "insecure_plaintext": json_reader.boolean,
    "cpus": json_reader.text,
    "user": json_reader.text,
}
