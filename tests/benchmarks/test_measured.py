"""How the benchmarks watch others: commands, their memory and bytes, and requests to a store."""

from __future__ import annotations

import hmac
import io
import os
import random
import sys
import uuid
from contextlib import closing
from itertools import islice
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from benchmarks.counting_proxy import CountingProxy
from benchmarks.databases import MEGABYTE, Values, change_rows, make_pair, token_rows
from benchmarks.measured import CommandFailed, CommandTooLong, run, run_watched
from benchmarks.topics.answers import APP_SECRET, requests_to
from shared.databases.cipher import TokenCipher
from shared.databases.tokens import TokenStorage
from shared.store.spaces import SpacesStore
from tests.support.s3_server import S3Server


def test_a_command_is_watched_with_its_children(tmp_path: Path) -> None:
    """Memory and bytes of a process that a shell starts count, after it has ended too."""
    program = (
        "import time; held = b'x' * 64_000_000; open('out', 'wb').write(held[:5_000_000]);"
        " time.sleep(0.15)"
    )
    (tmp_path / "program.py").write_text(program)
    spent = run_watched(("sh", "-c", f"{sys.executable} program.py; true"), os.environ, tmp_path)
    assert 64_000_000 < spent.peak_memory < 200_000_000
    assert 5_000_000 <= spent.traffic.written < 6_000_000


def test_a_command_that_fails_or_never_ends_is_told(tmp_path: Path) -> None:
    """Nobody's failure counts as a fast backup, and what a command started ends with it."""
    with pytest.raises(CommandFailed, match="no such thing"):
        run(("sh", "-c", "echo no such thing; exit 3"), os.environ, tmp_path)
    with pytest.raises(CommandTooLong):
        run(("sh", "-c", "sleep 60 & wait"), os.environ, tmp_path, 0.1)


def test_requests_are_counted_on_kept_connections(s3_server: S3Server) -> None:
    """Each request of a client counts once by its method, with the bytes both ways."""
    bucket = f"counted-{uuid.uuid4().hex}"
    s3_server.create_bucket(bucket)
    with CountingProxy(s3_server.endpoint) as proxy:
        store = SpacesStore(s3_server.settings(bucket, endpoint=proxy.endpoint))
        for number in range(3):
            store.put(f"key-{number}", io.BytesIO(b"x" * 100_000), {})
        put = proxy.take()
        assert put.requests == {"PUT": 3}
        assert 300_000 < put.sent < 310_000
        store.get("key-1", io.BytesIO())
        assert len(list(store.list(""))) == 3
        assert store.head("key-2").size == 100_000
        asked = proxy.take()
        assert asked.requests == {"GET": 1, "LIST": 1, "HEAD": 1}
        assert 100_000 < asked.received < 110_000
        assert proxy.take().total == 0


def test_webhooks_are_new_and_signed() -> None:
    """Each body that the app is asked with has a message of its own, and Meta's signature."""
    asked = requests_to("POST /facebook/webhook")
    bodies = asked["bodies"]
    assert isinstance(bodies, list)
    assert len({body for body, _ in bodies}) == len(bodies) > 1000
    body, headers = bodies[7]
    digest = hmac.new(APP_SECRET.encode(), body.encode(), "sha256").hexdigest()
    assert f"X-Hub-Signature-256: sha256={digest}" in headers
    assert f"Content-Length: {len(body.encode())}" in headers
    assert requests_to("/healthz")["bodies"] == [("", [])]


def test_databases_are_those_of_the_bot(tmp_path: Path) -> None:
    """The rows are of the size that was asked for, and the bot's own storage reads each value."""
    key = Fernet.generate_key().decode()
    values = Values(key, 300)
    pair = make_pair(tmp_path / "live", 0.5, values)
    assert 0.5 * MEGABYTE <= pair.tokens.stat().st_size < 0.7 * MEGABYTE
    assert 1.0 * MEGABYTE <= pair.sessions.stat().st_size < 1.2 * MEGABYTE
    assert 10 <= change_rows(pair, 0.01, values) < 40
    with closing(TokenStorage(pair.tokens, TokenCipher((key,)))) as storage:
        rows, unreadable, _ = storage.count_readable()
    assert rows > 1000
    assert unreadable == 0


def test_as_many_values_differ_as_were_asked_for() -> None:
    """After the last of them comes the first again."""
    values = Values(Fernet.generate_key().decode(), 3)
    taken = [values.take() for _ in range(7)]
    assert len(set(taken)) == 3
    assert taken[:3] * 2 + taken[:1] == taken


def test_no_key_comes_twice() -> None:
    """The keys of a database are all different, even when the random numbers come again."""
    values, keys = Values(Fernet.generate_key().decode(), 3), list[str]()
    rows, state = token_rows(values), random.getstate()
    try:
        for _ in range(4):
            random.seed(1)
            keys += [key for key, _, _ in islice(rows, 25_000)]
    finally:
        random.setstate(state)
    assert len(set(keys)) == len(keys) == 100_000
