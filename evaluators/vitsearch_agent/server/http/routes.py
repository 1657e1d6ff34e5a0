"""The routes: which endpoint of `Api` each method and path calls, and with which arguments."""

import re
from typing import Any, Callable, Dict, Mapping, NamedTuple, Pattern, Union

from vitsearch_agent.base.canonical_json import parse_json
from vitsearch_agent.errors import InvalidRequest, NotFound
from vitsearch_agent.server.api import Api, checked_id
from vitsearch_agent.server.http.request_head import Head
from vitsearch_agent.wire.protocol import CHUNK_MAX_BYTES, JSON_MAX_BYTES

_DIGITS = re.compile(r"[0-9]{1,15}\Z")


class Answer(NamedTuple):
    """The answer to a request: JSON, or raw bytes."""

    status: int
    content: Union[bytes, Dict[str, Any]]
    headers: Mapping[str, str] = {}


class Call(NamedTuple):
    """One authorised request. `body(limit)` reads its body, at most `limit` bytes; `caller` is the client's address."""

    head: Head
    body: Callable[[int], bytes]
    caller: str

    def parameter(self, name: str) -> str:
        """Return a parameter of the query, "0" if it is absent."""
        return self.head.query.get(name, "0")

    def bytes_in(self, header: str) -> int:
        """Return the number of bytes in a header; InvalidRequest if it is not a number."""
        value = self.head.headers.get(header.lower(), "")
        if not _DIGITS.match(value):
            raise InvalidRequest(f"{header}: expected a number of bytes, got {value[:80]!r}")
        return int(value)

    def json(self) -> Any:
        """Return the body as JSON; InvalidRequest if it is not."""
        try:
            return parse_json(self.body(JSON_MAX_BYTES))
        except ValueError as error:
            raise InvalidRequest(f"the body is not JSON: {error}") from error


Endpoint = Callable[[Api, str, Call], Answer]
"""A function that answers a call; the text is the id in its path, "" if the path has none."""


class Route(NamedTuple):
    """A method and a pattern of the whole path, with the endpoint that answers them."""

    method: str
    pattern: Pattern[str]
    endpoint: Endpoint


def answer(api: Api, call: Call) -> Answer:
    """Return the answer of the endpoint for a call; NotFound if there is no such endpoint."""
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


def _outputs(api: Api, identifier: str, call: Call) -> Answer:
    piece, size = api.outputs(identifier, call.parameter("part"), call.parameter("offset"))
    return Answer(200, piece, {"Upload-Length": str(size)})


def _route(method: str, path: str, endpoint: Endpoint) -> Route:
    return Route(method, re.compile(path.replace("{id}", "(?P<id>[^/]+)") + r"\Z"), endpoint)


ROUTES = (
    _route("GET", "/v1/device", lambda api, _, __: Answer(*api.device())),
    _route("GET", "/v1/conditions", lambda api, _, __: Answer(*api.conditions())),
    _route("POST", "/v1/uploads", lambda api, _, call: Answer(*api.prepare_upload(call.json()))),
    _route("HEAD", "/v1/blobs/{id}", _head_blob),
    _route("PATCH", "/v1/blobs/{id}", _patch_blob),
    _route(
        "PUT",
        "/v1/jobs/{id}",
        lambda api, job, call: Answer(*api.put_job(job, call.json(), call.head.query.get("asker"), call.caller)),
    ),
    _route("GET", "/v1/jobs/{id}", lambda api, job, call: Answer(*api.get_job(job, call.parameter("wait")))),
    _route(
        "GET",
        "/v1/jobs/{id}/events",
        lambda api, job, call: Answer(*api.events(job, call.parameter("after"), call.parameter("wait"))),
    ),
    _route("GET", "/v1/jobs/{id}/outputs", _outputs),
    _route(
        "DELETE",
        "/v1/jobs/{id}",
        lambda api, job, call: Answer(*api.cancel_job(job, call.head.query.get("asker"), call.caller)),
    ),
    _route("GET", "/v1/jobs", lambda api, _, __: Answer(*api.jobs())),
)
