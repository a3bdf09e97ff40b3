"""Tests of `shared.store.s3_connections`: waits that the SDK's time limits do not end."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from shared.errors import StoreUnreachable
from shared.store.spaces import SpacesStore
from shared.store.spaces_access import SpacesSettings
from tests.support.s3_server import REGION, S3Server
from tests.support.slow_server import Trickle
from tests.support.waiting import eventually

LONG = 60.0
CALLS: dict[str, Callable[[SpacesStore], object]] = {
    "list": lambda store: list(store.list("backups/")),
    "head": lambda store: store.head("a.db"),
    "delete": lambda store: store.delete("a.db"),
    "put": lambda store: store.put("a.db", io.BytesIO(b"bytes"), {"sha256": "1"}),
    "get": lambda store: store.get("a.db", io.BytesIO()),
}
HEADS = {
    "in the head": b"HTTP/1.1 200 OK\r\nx-slow: ",
    "in the body": b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n",
}


def settings_at(port: int, *, tls: bool = False) -> SpacesSettings:
    """Settings of a bucket that is said to be there."""
    return SpacesSettings(
        api_key="key",
        api_secret="secret",
        region=REGION,
        bucket="bucket",
        endpoint=f"http{'s' if tls else ''}://127.0.0.1:{port}",
        ca_bundle=None,
    )


@pytest.mark.parametrize(
    ("call", "where"),
    [*((call, "in the head") for call in CALLS), ("list", "in the body")],
)
def test_an_answer_that_trickles_is_cut(call: str, where: str) -> None:
    """Whatever is asked: an answer that is not whole in time is no answer, and is not awaited

    again. No wait on the socket is long enough for the SDK to notice.
    """
    with Trickle(HEADS[where]) as server:
        store = SpacesStore(
            settings_at(server.port), read_timeout=LONG, attempts=5, answer_timeout=0.3
        )
        began = time.monotonic()
        with pytest.raises(StoreUnreachable):
            CALLS[call](store)
        assert time.monotonic() - began < 10
        assert server.connections == 1


def test_time_between_answers_does_not_count(s3_server: S3Server, bucket: str) -> None:
    """Who reads a listing slowly, and asks other things meanwhile, is not cut off."""
    settings = s3_server.settings(bucket)
    store = SpacesStore(settings, answer_timeout=0.5)
    for name in "abc":
        store.put(f"{name}.db", io.BytesIO(b"bytes"), {"sha256": "1"})
    waiting = threading.Event()
    seen = []
    for found in store.list(""):
        waiting.wait(0.2)
        seen.append(store.head(found.key).key)
    assert seen == ["a.db", "b.db", "c.db"]
    waiting.wait(0.2)
    assert len(list(store.list(""))) == 3


@pytest.mark.parametrize(("call", "tls"), [*((call, False) for call in CALLS), ("head", True)])
def test_giving_up_ends_what_hangs(call: str, tls: bool) -> None:
    """A request that waits for a silent server ends soon after `give_up`, and none begins."""
    with Trickle(silent=True) as server, ThreadPoolExecutor(1) as pool:
        store = SpacesStore(
            settings_at(server.port, tls=tls), connect_timeout=LONG, read_timeout=LONG, attempts=5
        )
        hangs = pool.submit(CALLS[call], store)
        eventually(lambda: server.connections, "the request")
        store.give_up(0.1)
        with pytest.raises(StoreUnreachable):
            hangs.result(timeout=10)
        with pytest.raises(StoreUnreachable):
            store.head("another.db")
        assert server.connections == 1


def test_what_ends_within_the_grace_ends_well(s3_server: S3Server, bucket: str) -> None:
    """`give_up` leaves time to put right what has begun."""
    store = SpacesStore(s3_server.settings(bucket))
    store.put("a.db", io.BytesIO(b"bytes"), {"sha256": "1"})
    store.give_up(30)
    store.delete("a.db")
    assert list(store.list("")) == []
