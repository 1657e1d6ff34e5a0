"""Faults 5, 7 and 10 of the list in `test_faults`: lost and slow connections and damaged bytes, with a real proxy."""

import os
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest

from vitsearch_agent import DeviceClient
from vitsearch_agent.client import transfer
from vitsearch_agent.client.client import Backoff
from vitsearch_agent.errors import DeviceUnreachable, TransferFailed

CHUNK = 100_000
CUT_S = 0.5


@pytest.fixture
def proxy(faulty_agent, make_proxy):
    return make_proxy(urlsplit(faulty_agent.url).port)


@pytest.fixture
def far_client(faulty_agent, proxy):
    settings = {"backoff": Backoff(0.02, 0.2), "deadline_s": 120.0, "timeout_s": 20.0}
    with DeviceClient(proxy.url, faulty_agent.token, "study", **settings) as client:
        yield client


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(transfer, "_CHUNK_FIRST_BYTES", CHUNK)
    monkeypatch.setattr(transfer, "CHUNK_MAX_BYTES", CHUNK)


def test_a_lost_connection_costs_an_upload_at_most_one_chunk(far_client, proxy, blob, small_chunks):
    cuts = []

    def cut_once(data):
        if proxy.up_bytes > 4.5 * CHUNK and not cuts:
            cuts.append(proxy.up_bytes)
            proxy.cut_for(CUT_S)
        return data

    proxy.on_up = cut_once
    digest = far_client.upload(blob)
    assert cuts
    assert far_client.upload(blob) == digest
    assert proxy.up_bytes < os.path.getsize(blob) + 1.5 * CHUNK


def test_a_lost_connection_does_not_repeat_a_measurement(
    faulty_agent, far_client, proxy, blob, tiny_protocol, tmp_path, until, notes
):
    """The measurement ends on the device while the network is down, and its result is fetched later."""
    gate, note = tmp_path / "gate", notes / "pid"
    with ThreadPoolExecutor(1) as pool, faulty_agent.client("watcher") as watcher:
        options = {"gate": str(gate), "note": str(note)}
        result = pool.submit(far_client.measure, blob, "faults", options, tiny_protocol)
        until(note.exists)
        proxy.cut()
        gate.write_text("open")
        until(lambda: watcher.jobs() == [])
        assert not result.done()
        proxy.restore()
        assert result.result(120).attempts == 1


@pytest.mark.long
def test_a_lost_result_is_fetched_again(far_client, proxy, blob, tiny_protocol):
    lost = []

    def lose_once(data):
        if b'"state": "done"' in data and not lost:
            lost.append(data)
            proxy.cut_for(CUT_S)
        return data

    proxy.on_down = lose_once
    assert far_client.measure(blob, "noop", {"busy_us": 10}, tiny_protocol).attempts == 1
    assert lost


@pytest.mark.long
def test_a_slow_link_gets_smaller_chunks_and_no_timeout_for_the_whole_file(far_client, proxy, blob, monkeypatch):
    """900 kB at 250 kB/s take longer than the timeout of one request."""
    monkeypatch.setattr(transfer, "_CHUNK_AIM_S", 0.3)
    proxy.rate = 250_000
    far_client._transport._timeout_s = 2.5
    offsets, lost = [], []
    request = far_client._transport.request

    def watched(method, path, body=None, headers=None, **more):
        if method == "PATCH":
            offsets.append((int(headers["Upload-Offset"]), len(body)))
        try:
            return request(method, path, body, headers, **more)
        except DeviceUnreachable as error:
            lost.append(error)
            raise

    monkeypatch.setattr(far_client._transport, "request", watched)
    far_client.upload(blob)
    starts, ends = [offset for offset, _ in offsets], [offset + size for offset, size in offsets]
    assert starts == sorted(starts)
    assert ends[-1] == os.path.getsize(blob)
    assert lost or starts == [0] + ends[:-1], "each byte is sent once, unless an answer was lost"
    assert min(size for _, size in offsets[:-1]) < offsets[0][1]


def damaging(times):
    """Flip a bit in the middle of the first `times` large pieces, which are bodies, because heads are at the start."""
    damaged = []

    def damage(data):
        if len(damaged) >= times or len(data) < 30_000:
            return data
        damaged.append(data)
        middle = len(data) // 2
        return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]

    return damage


def test_damaged_bytes_are_detected_and_sent_once_more(far_client, proxy, blob):
    proxy.on_up = damaging(1)
    assert far_client.upload(blob)
    assert proxy.up_bytes > 2 * os.path.getsize(blob)


def test_a_connection_that_damages_everything_is_a_final_failure(far_client, proxy, blob):
    proxy.on_up = damaging(10**6)
    with pytest.raises(TransferFailed) as caught:
        far_client.upload(blob)
    assert caught.value.reason == "digest_mismatch"
    assert not caught.value.transient
