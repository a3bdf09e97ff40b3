"""The loss window: what is computed of rows and states, and what the topic finds of ours."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from cryptography.fernet import Fernet

from benchmarks.counting_proxy import CountingProxy
from benchmarks.databases import Values
from benchmarks.loss import Stored, loss_windows, row_number
from benchmarks.place import Place
from benchmarks.plan import Plan
from benchmarks.results import Results
from benchmarks.topics import following
from tests.support.s3_server import S3Server

# Rows 2, 4, 6 and so on, committed at 2, 4, 6 seconds.
COMMITS = {number: float(number) for number in range(2, 21, 2)}


def test_a_window_is_the_age_of_the_oldest_row_that_was_not_stored() -> None:
    """Just before a state is stored, all rows after the one before it would be lost."""
    assert loss_windows(COMMITS, [Stored(9.0, 6), Stored(15.5, 14)]) == [9.0 - 2, 15.5 - 8]


@pytest.mark.parametrize(
    ("states", "windows"),
    [
        ([Stored(9.0, 6), Stored(10.0, 6), Stored(11.0, 8)], [7.0, 3.0]),
        ([Stored(9.0, 0), Stored(10.0, 1)], []),
        ([Stored(30.0, 20), Stored(31.0, 20)], [28.0]),
        ([Stored(10.0, 8), Stored(9.0, 4)], [7.0, 4.0]),
        ([Stored(1.0, 1)], []),
        ([], []),
    ],
    ids=["nothing new", "before the first row", "all of them", "unordered", "earlier rows", "none"],
)
def test_a_state_that_brings_nothing_new_has_no_window(
    states: list[Stored], windows: list[float]
) -> None:
    """States are taken in the order in which they were stored, whatever they are told in."""
    assert loss_windows(COMMITS, states) == windows


def test_the_newest_row_is_a_number() -> None:
    """What was in the table before has none."""
    assert [row_number(text) for text in ("w000000017", "ffd1-86", None)] == [17, 0, 0]


def test_the_proxy_notes_what_was_stored(s3_server: S3Server, bucket: str) -> None:
    """A PUT that the server took is noted with its key, in order; one that it refused is not."""
    with CountingProxy(s3_server.endpoint) as proxy:
        client = replace(s3_server, endpoint=proxy.endpoint).client()
        for size in (0, 10, 2_000_000):
            client.put_object(Bucket=bucket, Key=f"of/{size}", Body=bytes(size))
        with pytest.raises(ClientError):
            client.put_object(Bucket=bucket, Key="of/10", Body=b"x", IfNoneMatch="*")
        client.get_object(Bucket=bucket, Key="of/10")["Body"].read()
        puts = proxy.puts(bucket)
    assert [put.key for put in puts] == ["of/0", "of/10", "of/2000000"]
    assert [put.at for put in puts] == sorted(put.at for put in puts)


def test_a_server_that_asks_for_a_body_has_not_answered_yet() -> None:
    """`100 Continue`, alone or with the answer behind it, even for a body of no bytes."""
    continues, done = b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"

    def answer(sock: socket.socket, *, apart: bool) -> None:
        sock.recv(65536)
        sock.sendall(continues if apart else continues + done)
        if apart:
            sock.recv(1)  # the client has seen the first
            sock.sendall(done)

    for apart in (True, False):
        with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
            endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
            with CountingProxy(endpoint) as proxy:
                host, port = proxy.endpoint.removeprefix("http://").split(":")
                with socket.create_connection((host, int(port))) as client:
                    accepted = server.accept()[0]
                    with accepted:
                        served = pool.submit(answer, accepted, apart=apart)
                        client.sendall(
                            b"PUT /bucket/empty HTTP/1.1\r\nContent-Length: 0\r\n"
                            b"Expect: 100-continue\r\n\r\n"
                        )
                        found = client.recv(len(continues), socket.MSG_WAITALL)
                        assert found == continues
                        if apart:
                            client.sendall(b" ")
                        assert client.recv(len(done), socket.MSG_WAITALL) == done
                        served.result(timeout=10)
                assert [put.key for put in proxy.puts("bucket")] == ["empty"]


def test_the_proxy_is_as_far_away_as_it_is_told(s3_server: S3Server, bucket: str) -> None:
    """Each request waits, and is answered as without it."""
    with CountingProxy(s3_server.endpoint) as proxy:
        client = replace(s3_server, endpoint=proxy.endpoint).client()
        proxy.delay = 0.2
        began = time.monotonic()
        client.put_object(Bucket=bucket, Key="far", Body=b"x" * 1000)
        assert client.get_object(Bucket=bucket, Key="far")["Body"].read() == b"x" * 1000
        assert time.monotonic() - began >= 0.4
        assert proxy.take().total == 2


def test_what_ours_loses_is_measured_from_outside(s3_server: S3Server, tmp_path: Path) -> None:
    """Windows, bytes, processor time and commits are found with following, and without it."""
    key = Fernet.generate_key().decode()
    place = Place(tmp_path, s3_server, key, Values(key, 30), s3_server.endpoint)
    plan = replace(Plan.of((0.5,), 1, {}, quick=True), follow_seconds=3.0)
    results = Results("python -m benchmarks", "this host", {})
    following.measure(plan, place, results)
    for what in (
        following.LOSS,
        following.OWN_LOSS,
        following.LOSS_FAR,
        following.PROVEN,
        f"{following.SENT} {following.TOKEN}",
        f"{following.STORED} {following.TOKEN}",
        f"{following.SENT} {following.PART}",
    ):
        found = results.find(following.TOPIC, 0.5, "ours in the app", what)
        assert found is not None, what
        assert found.least > 0
    for who in ("ours in the app", "ours, following off"):
        for what in (following.P99, following.BUSY, following.IDLE):
            assert results.find(following.TOPIC, 0.5, who, what) is not None, (who, what)
    idle = results.find(following.TOPIC, 0.5, "ours in the app", following.IDLE_PUTS)
    assert idle is not None
    assert idle.most == 0
