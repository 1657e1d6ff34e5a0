"""Transfer of files to a device and back, in chunks that may be lost and repeated."""

import functools
import hashlib
import os
import time
from typing import BinaryIO, Dict, Sequence, Tuple

from vitsearch_agent import artifacts
from vitsearch_agent.base import npy
from vitsearch_agent.base.canonical_json import file_digest
from vitsearch_agent.base.plain_files import clear
from vitsearch_agent.client.retry import RetryPolicy
from vitsearch_agent.client.transport import Transport
from vitsearch_agent.errors import AgentError, InvalidRequest, NotFound, TransferFailed
from vitsearch_agent.wire.protocol import CHUNK_MAX_BYTES, IMAGES_NAME, BlobRef, OutputsResult, Part

_CHUNK_FIRST_BYTES = 256 << 10
_CHUNK_MIN_BYTES = 16 << 10
_CHUNK_AIM_S = 2.0


class Transfer:
    """Sends and fetches files, and remembers the path of each file that it has digested."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._paths: Dict[str, str] = {}

    def local_paths(self, blobs: Sequence[BlobRef]) -> Dict[str, str]:
        """Return name -> path for the blobs whose file this client has."""
        return {blob.name: self._paths[blob.sha256] for blob in blobs if blob.sha256 in self._paths}

    def upload(self, path: str, retry_policy: RetryPolicy) -> str:
        """Send a file to the device and return its digest; see `DeviceClient.upload`."""
        sha256 = file_digest(path)
        self._paths[sha256] = path
        damaged = 0
        while True:
            try:
                self._send(sha256, path, retry_policy)
                return sha256
            except TransferFailed as error:
                damaged += error.reason == "digest_mismatch"
                is_repeatable = error.transient or error.reason in ("digest_mismatch", "offset_mismatch")
                if not is_repeatable or damaged > 1:
                    raise
                retry_policy.wait(error)
            except AgentError as error:
                if not error.transient:
                    raise
                retry_policy.wait(error)

    def upload_again(self, sha256: str, error: AgentError, retry_policy: RetryPolicy) -> None:
        """Send a file that the device misses; TransferFailed if this client does not have it or it was changed."""
        path = self._paths.get(sha256)
        if path is None or not os.path.exists(path):
            raise TransferFailed(
                f"the device does not have {sha256}, and this client has no file with this digest",
                {"reason": "no_file"},
            ) from error
        if self.upload(path, retry_policy) != sha256:
            raise TransferFailed(f"{path} was changed after it was digested", {"reason": "changed"})

    def fetch(self, endpoint: str, result: OutputsResult, path: str, retry_policy: RetryPolicy) -> None:
        """Write the outputs of a job to a .npy file; see `DeviceClient.fetch_outputs`."""
        unfinished = f"{path}.part"
        with _opened(unfinished) as stream:
            header = npy.header_of(result.dtype, result.shape)
            for number in range(_arrived(stream, header, result.parts), len(result.parts)):
                part = result.parts[number]
                stream.write(self._part(f"{endpoint}?part={number}", part, retry_policy))
                stream.flush()
            stream.truncate()
        os.replace(unfinished, path)

    def _part(self, endpoint: str, part: Part, retry_policy: RetryPolicy) -> bytes:
        """Return a part of the outputs; TransferFailed if it arrives damaged twice."""
        for _ in range(2):
            content = b""
            while len(content) < part.size:
                retry_policy.check()
                url = f"{endpoint}&offset={len(content)}"
                piece = retry_policy.ask(functools.partial(self._transport.request, "GET", url)).body
                if not isinstance(piece, bytes) or not piece:
                    raise AgentError("protocol", f"{endpoint}: the device sent nothing from byte {len(content)} on")
                retry_policy.answered()
                content += piece
            actual = hashlib.sha256(content).hexdigest()
            if actual == part.sha256:
                return content
        raise TransferFailed(
            f"{endpoint} has the digest {actual}, not {part.sha256}", {"reason": "digest_mismatch", "actual": actual}
        )

    def manifest(self, path_or_digest: str) -> Tuple[BlobRef, ...]:
        """Return the files of a model, given by path or by the digest of an uploaded file; NotFound, InvalidRequest."""
        if not os.path.exists(path_or_digest) and path_or_digest not in self._paths:
            return (self._remote_blob("model.onnx", path_or_digest),)
        files = artifacts.model_files(self._paths.get(path_or_digest, path_or_digest))
        blobs = []
        for name, path in files.items():
            if not os.path.exists(path):
                raise InvalidRequest(f"{path_or_digest} needs {path}, which does not exist")
            blobs.append(self._local_blob(name, path))
        return tuple(blobs)

    def images(self, path_or_digest: str) -> BlobRef:
        """Return the file of images, given by path or by the digest of an uploaded file; InvalidRequest, NotFound."""
        path = self._paths.get(path_or_digest, path_or_digest)
        if not os.path.exists(path):
            return self._remote_blob(IMAGES_NAME, path_or_digest)
        npy.check_images(path)
        return self._local_blob(IMAGES_NAME, path)

    def _local_blob(self, name: str, path: str) -> BlobRef:
        sha256 = file_digest(path)
        self._paths[sha256] = path
        return BlobRef(name, sha256, os.path.getsize(path))

    def _remote_blob(self, name: str, sha256: str) -> BlobRef:
        if len(sha256) != 64:
            raise InvalidRequest(f"{sha256!r} is neither an existing file nor a digest (64 hex digits)")
        try:
            headers = self._transport.request("HEAD", f"/v1/blobs/{sha256}").headers
        except NotFound:
            headers = {}
        if "upload-length" not in headers:
            raise NotFound(f"the device does not have {sha256}, or only a part of it: upload the file")
        return BlobRef(name, sha256, int(headers["upload-length"]))

    def _send(self, sha256: str, path: str, retry_policy: RetryPolicy) -> None:
        size = os.path.getsize(path)
        request = {"sha256": sha256, "size": size}
        state = self._transport.request("POST", "/v1/uploads", request).body
        chunk_bytes = _CHUNK_FIRST_BYTES
        with open(path, "rb") as stream:
            while not state["complete"]:
                retry_policy.check()
                stream.seek(state["offset"])
                headers = {"Upload-Offset": str(state["offset"]), "Upload-Length": str(size)}
                start = time.monotonic()
                state = self._transport.request("PATCH", f"/v1/blobs/{sha256}", stream.read(chunk_bytes), headers).body
                retry_policy.answered()
                chunk_bytes = next_chunk_bytes(chunk_bytes, time.monotonic() - start)


def _opened(path: str) -> BinaryIO:
    """Open the unfinished file of an earlier call, or a new one in the place of anything else."""
    if not os.path.isfile(path) or os.path.islink(path):
        clear(path)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
    return open(descriptor, "r+b")


def _arrived(stream: BinaryIO, header: bytes, parts: Sequence[Part]) -> int:
    """Return how many parts a file has after its header, and go to their end; write the header if it has another."""
    if stream.read(len(header)) != header:
        stream.seek(0)
        stream.truncate()
        stream.write(header)
        return 0
    end = len(header)
    for number, part in enumerate(parts):
        if hashlib.sha256(stream.read(part.size)).hexdigest() != part.sha256:
            stream.seek(end)
            return number
        end += part.size
    return len(parts)


def next_chunk_bytes(chunk_bytes: int, took_s: float) -> int:
    """Return the size of the next chunk: up to the maximum on a fast link, about 2 s of transfer on a slow one."""
    if took_s > _CHUNK_AIM_S:
        return max(_CHUNK_MIN_BYTES, chunk_bytes // 2)
    if took_s < _CHUNK_AIM_S / 4:
        return min(CHUNK_MAX_BYTES, chunk_bytes * 2)
    return chunk_bytes
