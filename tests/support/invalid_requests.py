"""Strategies of invalid requests to an agent: mutations of valid ones, and bytes that are not requests at all."""

import copy
import hashlib
import json
import re

from hypothesis import strategies as st

from vitsearch_agent.server.http.routes import ROUTES as ENDPOINTS
from vitsearch_agent.wire.job_spec import IMAGES_NAME
from vitsearch_agent.wire.measure_protocol import ONE_PROCESS
from vitsearch_agent.wire.protocol import PROTOCOL_VERSION, BlobRef, JobSpec, job_id

BLOB = b"not a model ..."
DIGEST = hashlib.sha256(BLOB).hexdigest()
OTHER = "ab" * 32

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
ODD_METHODS = ("OPTIONS", "TRACE", "CONNECT", "get", "G\xcbT", "X" * 300, "")
IDS = (DIGEST, OTHER, "..", "../../token", "%2e%2e%2ftoken", "a" * 63, "A" * 64, "", "\xff", "x" * 9000)
# From the table of routes, so that new endpoints are included.
ROUTES = tuple((method, re.sub(r"\(\?P<id>.*?\)", "{}", path.pattern)[: -len(r"\Z")]) for method, path, _ in ENDPOINTS)
PATHS = (
    "/v1/health",
    "/v1/{}",
    "/{}",
    "//[{}",
    "http://127.0.0.1/v1/jobs/{}",
    "*",
)
QUERIES = (
    "",
    "?",
    "?wait=0",
    "?wait=-1",
    "?wait=nan",
    "?wait=x",
    "?after=9&wait=0",
    "?after=-1",
    "?after=1e9",
    "?offset=0",
    "?offset=99",
    "?offset=x",
    "?%00=%ff",
)
WORDS = (
    "",
    "0",
    "-1",
    "1",
    "15",
    "16",
    "99999999999999",
    "9" * 400,
    "1e3",
    "0x10",
    " 1",
    "\xff",
    "a, b",
    "chunked",
    "close",
)
HEADERS = (
    "Upload-Offset",
    "Upload-Length",
    "Content-Type",
    "Transfer-Encoding",
    "Connection",
    "Expect",
    "Range",
    "Cookie",
    "X-Forwarded-For",
)
ODD_VALUES = (
    None,
    True,
    -1,
    0,
    1,
    2**63,
    10**400,
    0.5,
    1e308,
    "",
    "x" * 5000,
    "../../etc/passwd",
    "\0",
    "\ud800",
    "model.onnx",
    "noop",
    "onnxruntime",
    "outputs",
    "argmax_uint8",
    "peaks",
    OTHER,
    DIGEST,
    [],
    {},
    [[]],
    {"": None},
)
ODD_BODIES = (
    b"",
    b"null",
    b"[]",
    b'"text"',
    b"{",
    b'{"a": NaN}',
    b'{"a": 1, "a": 2}',
    b"[" * 20_000,
    b'{"a":' * 4000,
    b"9" * 20_000,
    b"-" + b"9" * 5000 + b".5e9999",
    b"\xff\xfe{\0}\0",
    b"\xef\xbb\xbf{}",
    b"\xc0\x80",
    b'"\\ud800"',
    BLOB,
    BLOB[:7],
    bytes(range(256)) * 20,
)
BROKEN_STARTS = (
    b"GET /v1/device HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
    b"PUT /v1/jobs/x HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n{}",
    b'POST /v1/uploads HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"a":\r\n0\r\n\r\n',
    b"GET /v1/device HTTP/9.9\r\n\r\n",
    b"GET /v1/device\r\n\r\n",
    b"GET  /v1/device  HTTP/1.1\r\n\r\n",
    b"GET /v1/device HTTP/1.1\nHost: x\n\n",
    b"GET /v1/device HTTP/1.1\r\n folded: x\r\n\r\n",
    b"GET /v1/device HTTP/1.1\r\nno colon\r\n\r\n",
    b"GET /v1/device HTTP/1.1\r\n" + b"a: b\r\n" * 500 + b"\r\n",
    b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
    b"\r\n\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"\0" * 100,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET /v1/device HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
)


def locations(value, here=()):
    """Return the paths of all values inside a JSON value, including itself."""
    paths = [here]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        paths += locations(item, here + (key,))
    return paths


def changed(value, location, new):
    if not location:
        return new
    copied = copy.deepcopy(value)
    inner = copied
    for key in location[:-1]:
        inner = inner[key]
    if new is DROPPED:
        del inner[location[-1]]
    else:
        inner[location[-1]] = new
    return copied


DROPPED = object()


class ValidRequests:
    """The valid requests to one agent that the strategies mutate."""

    def __init__(self, token, device_id):
        self.token = token
        protocol = ONE_PROCESS._replace(
            id="fuzz", warmup_min_runs=1, warmup_min_s=0.0, min_runs=11, min_s=0.0, timeout_s=60.0
        )
        spec = JobSpec("measure", (BlobRef("model.onnx", DIGEST, len(BLOB)),), "noop", {"busy_us": 1}, protocol)
        self.device_id = device_id
        self.job = {
            "api": PROTOCOL_VERSION,
            "device_id": device_id,
            "owner": {"study": "fuzz", "trial": 1},
            "environment_id": None,
            "spec": spec.to_json(),
        }
        self.own = job_id(spec, device_id)
        self.job["spec"]["protocol"] = dict(protocol._asdict())
        images = BlobRef(IMAGES_NAME, DIGEST, len(BLOB)).to_json()
        self.outputs = copy.deepcopy(self.job)
        manifest = [*self.outputs["spec"]["manifest"], images]
        self.outputs["spec"].update(kind="outputs", reduction="none", manifest=manifest)
        self.refused = copy.deepcopy(self.job)
        self.refused["spec"].update(runtime="onnxruntime", options={})
        self.peaks = copy.deepcopy(self.job)
        self.peaks["spec"].update(kind="peaks", manifest=[])
        self.jobs = (self.job, self.outputs, self.refused, self.peaks)
        self.bodies = (*self.jobs, {"sha256": DIGEST, "size": len(BLOB)}, {"sha256": OTHER, "size": 10**9})

    def path_of(self, body):
        """Return the path under which a job would be accepted, if its body is valid."""
        try:
            return "/v1/jobs/" + job_id(JobSpec.from_json(body["spec"]), self.device_id)
        except Exception:  # noqa: BLE001 - the agent gets it too
            return "/v1/jobs/" + OTHER


def odd_json(draw, valid):
    which = draw(st.integers(0, len(valid.bodies) - 1))
    body, is_job = valid.bodies[which], which < len(valid.jobs)
    for _ in range(draw(st.integers(0, 2))):
        options = locations(body)
        location = options[draw(st.integers(0, len(options) - 1))]
        new = draw(st.sampled_from((*ODD_VALUES, DROPPED)))
        body = changed(body, location, new) if location or new is not DROPPED else body
    method, path = ("PUT", valid.path_of(body)) if is_job else ("POST", "/v1/uploads")
    return method, path, json.dumps(body).encode()


def odd_upload(draw):
    offset, total = (draw(st.sampled_from((0, 1, 7, 15, 16, 2**40))) for _ in range(2))
    digest = draw(st.sampled_from((DIGEST, OTHER, "..", "x")))
    headers = [("Upload-Offset", str(offset)), ("Upload-Length", str(total))]
    return "PATCH", f"/v1/blobs/{digest}", draw(st.sampled_from(ODD_BODIES)), headers


@st.composite
def requests(draw, valid):
    """A request with a correct length, so that the agent finds the next one; anything else may be wrong."""
    headers = []
    kind = draw(st.sampled_from((0, 0, 0, 1, 1, 2, 3)))
    if kind == 0:
        method, path, body = odd_json(draw, valid)
    elif kind == 1:
        method, path, body, headers = odd_upload(draw)
    else:
        method, path = draw(st.sampled_from(ROUTES * 2 + tuple((method, path) for path in PATHS for method in METHODS)))
        path = path.format(draw(st.sampled_from((*IDS, valid.own)))) + draw(st.sampled_from(QUERIES))
        body = draw(st.sampled_from(ODD_BODIES)) if kind == 2 else b""
    for _ in range(draw(st.integers(0, 1))):
        name = draw(st.sampled_from(HEADERS))
        if name not in ("Transfer-Encoding", "Expect", "Connection"):
            headers = [*headers, (name, draw(st.sampled_from(WORDS)))]
    token = valid.token if draw(st.integers(0, 19)) else draw(st.sampled_from(WORDS))
    head = [f"{method} {path} HTTP/1.1", f"Authorization: Bearer {token}", f"Content-Length: {len(body)}"]
    head += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body


@st.composite
def broken(draw, valid):
    """Bytes after which the agent cannot know where the next request starts."""
    kind = draw(st.integers(0, 3))
    if kind == 0:
        return draw(st.sampled_from(BROKEN_STARTS)) + draw(st.binary(max_size=20))
    if kind == 1:
        return draw(st.binary(max_size=200))
    whole = draw(requests(valid))
    if kind == 2:
        return whole[: draw(st.integers(0, len(whole)))]
    name, word = draw(st.sampled_from(HEADERS)), draw(st.sampled_from(WORDS))
    method = draw(st.sampled_from(ODD_METHODS + METHODS))
    head = f"{method} /v1/device HTTP/1.1\r\n{name}: {word}\r\nAuthorization: Bearer {valid.token}\r\n"
    return head.encode("latin-1") + draw(st.sampled_from((b"", b"\r\n", b"\r\n\r\n", b"\n", b": \r\n\r\n")))
