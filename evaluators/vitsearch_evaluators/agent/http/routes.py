"""Which method and path asks for what, and how the parts of a request become the arguments of `Api`."""

import re
from typing import Any, Callable, Dict, Mapping, NamedTuple, Pattern, Union

from vitsearch_evaluators.agent.api import Api, checked_id
from vitsearch_evaluators.agent.http.request_head import Head
from vitsearch_evaluators.base.canonical_json import parse_json
from vitsearch_evaluators.errors import InvalidRequest, NotFound
from vitsearch_evaluators.wire.protocol import CHUNK_MAX_BYTES, JSON_MAX_BYTES

_DIGITS = re.compile(r"[0-9]{1,15}\Z")


class Answer(NamedTuple):
    """What a request is answered with: JSON, or bytes as they are."""

    status: int
    content: Union[bytes, Dict[str, Any]]
    headers: Mapping[str, str] = {}


class Call(NamedTuple):
    """One request that was let in. `body` reads its body, up to so many bytes; `caller` is the client's address."""

    head: Head
    body: Callable[[int], bytes]
    caller: str

    def asked(self, name: str) -> str:
        """Return a parameter of the query, "0" when it is not there."""
        return self.head.query.get(name, "0")

    def bytes_in(self, header: str) -> int:
        """Return the number of bytes that a header names."""
        value = self.head.headers.get(header.lower(), "")
        if not _DIGITS.match(value):
            raise InvalidRequest(f"{header}: expected a number of bytes, got {value[:80]!r}")
        return int(value)

    def json(self) -> Any:
        try:
            return parse_json(self.body(JSON_MAX_BYTES))
        except ValueError as error:
            raise InvalidRequest(f"the body is not JSON: {error}") from error


Endpoint = Callable[[Api, str, Call], Answer]
"""Answers a call; the text is the id in its path, "" where the path has none."""


class Route(NamedTuple):
    """`pattern` is that of the whole path."""

    method: str
    pattern: Pattern[str]
    endpoint: Endpoint


def answer(api: Api, call: Call) -> Answer:
    """Have the endpoint answer that a call is for; NotFound when there is none."""
    for route in ROUTES:
        match = route.pattern.match(call.head.path)
        if match and route.method == call.head.method:
            return route.endpoint(api, match.groupdict().get("id", ""), call)
    raise NotFound(f"no endpoint {call.head.method} {call.head.path[:200]}")


def _head_blob(api: Api, sha256: str, _call: Call) -> Answer:
    progress = api.blob(sha256)
    headers = {"Upload-Offset": str(progress.offset)}
    if progress.complete:
        headers["Upload-Length"] = str(progress.offset)
    return Answer(200, {}, headers)


def _patch_blob(api: Api, sha256: str, call: Call) -> Answer:
    checked_id(sha256)
    offset, total = call.bytes_in("Upload-Offset"), call.bytes_in("Upload-Length")
    return Answer(*api.append(sha256, offset, total, call.body(CHUNK_MAX_BYTES), call.caller))


def _logits(api: Api, identifier: str, call: Call) -> Answer:
    piece, size = api.logits(identifier, call.asked("offset"))
    return Answer(200, piece, {"Upload-Length": str(size)})


def _route(method: str, path: str, endpoint: Endpoint) -> Route:
    return Route(method, re.compile(path.replace("{id}", "(?P<id>[^/]+)") + r"\Z"), endpoint)


ROUTES = (
    _route("GET", "/v1/device", lambda api, _, __: Answer(*api.device())),
    _route("GET", "/v1/conditions", lambda api, _, __: Answer(*api.conditions())),
    _route("POST", "/v1/uploads", lambda api, _, call: Answer(*api.prepare_upload(call.json()))),
    _route("HEAD", "/v1/blobs/{id}", _head_blob),
    _route("PATCH", "/v1/blobs/{id}", _patch_blob),
    _route("PUT", "/v1/jobs/{id}", lambda api, job, call: Answer(*api.put_job(job, call.json(), call.caller))),
    _route("GET", "/v1/jobs/{id}", lambda api, job, call: Answer(*api.get_job(job, call.asked("wait")))),
    _route(
        "GET",
        "/v1/jobs/{id}/events",
        lambda api, job, call: Answer(*api.events(job, call.asked("after"), call.asked("wait"))),
    ),
    _route("GET", "/v1/jobs/{id}/logits", _logits),
    _route("DELETE", "/v1/jobs/{id}", lambda api, job, call: Answer(*api.cancel_job(job, call.caller))),
    _route("GET", "/v1/jobs", lambda api, _, __: Answer(*api.jobs())),
)
