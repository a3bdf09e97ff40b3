"""Tests of `shared.process.service_manager`: what systemd hears, by a real socket."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.process.lasting_work import Sign
from shared.process.service_manager import announced
from shared.settings.load import Manager, read_manager

WELL = Sign("scheduler", age=1, most=180)
STUCK = Sign("scheduler", age=181, most=180)
PATIENCE_SECONDS = 20.0


class Systemd:
    """The side of systemd: a datagram socket."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)

    def heard(self, seconds: float = PATIENCE_SECONDS) -> str:
        """The next line; raises `TimeoutError` when none comes."""
        self._socket.settimeout(seconds)
        return self._socket.recv(1000).decode()

    def all_heard(self) -> list[str]:
        """What was sent and not read yet."""
        self._socket.setblocking(False)
        lines = []
        while True:
            try:
                lines.append(self._socket.recv(1000).decode())
            except BlockingIOError:
                return lines

    def close(self) -> None:
        """Be gone."""
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Systemd]:
    """Listens at a path or, as on newer hosts, at an abstract address."""
    address = str(tmp_path / "notify")
    listening = Systemd(f"@{secrets.token_hex(8)}" if request.param == "abstract" else address)
    yield listening
    listening.close()


def test_it_is_ready_then_pings_then_stops(systemd: Systemd) -> None:
    """In this order, each as a datagram of its own."""
    manager = Manager(systemd.address, 0.02, os.getpid())

    async def serve() -> list[str]:
        async with announced(manager, lambda: [WELL]):
            return [await asyncio.to_thread(systemd.heard) for _ in range(3)]

    assert asyncio.run(serve()) == ["READY=1", "WATCHDOG=1", "WATCHDOG=1"]
    assert systemd.all_heard()[-1] == "STOPPING=1"


def test_no_ping_comes_while_a_thread_is_stuck(
    systemd: Systemd, caplog: pytest.LogCaptureFixture
) -> None:
    """The log names it once; the pings come again when it goes on."""
    manager = Manager(systemd.address, 0.02, None)
    signs = [STUCK]
    asked = threading.Semaphore(0)

    def look() -> list[Sign]:
        asked.release()
        return signs

    async def serve() -> list[str]:
        async with announced(manager, look):
            for _ in range(5):  # five times it could have pinged
                assert await asyncio.to_thread(asked.acquire, timeout=PATIENCE_SECONDS)
            meanwhile = systemd.all_heard()
            signs[:] = [WELL]
            return [*meanwhile, await asyncio.to_thread(systemd.heard)]

    with caplog.at_level(logging.ERROR):
        assert asyncio.run(serve()) == ["READY=1", "WATCHDOG=1"]
    assert [r.getMessage() for r in caplog.records] == [
        "no ping to systemd: stuck threads: scheduler"
    ]


def test_no_ping_comes_while_the_event_loop_is_blocked(systemd: Systemd) -> None:
    """A loop that answers no request answers systemd neither, however well the threads are."""
    manager = Manager(systemd.address, 0.02, None)

    async def serve() -> list[str]:
        async with announced(manager, lambda: [WELL]):
            assert await asyncio.to_thread(systemd.heard) == "READY=1"
            assert await asyncio.to_thread(systemd.heard) == "WATCHDOG=1"
            systemd.all_heard()
            with pytest.raises(TimeoutError):
                systemd.heard(0.5)  # blocks the loop: twenty-five intervals
            return [await asyncio.to_thread(systemd.heard)]

    assert asyncio.run(serve()) == ["WATCHDOG=1"]


def test_a_thread_that_fails_is_pinged_for(systemd: Systemd) -> None:
    """A restart would help nothing against a full disk."""
    failing = Sign("scheduler", age=1, most=180, failure="the disk is full", failing_for=9000)

    async def serve() -> str:
        async with announced(Manager(systemd.address, 0.02, None), lambda: [failing]):
            systemd.heard()
            return await asyncio.to_thread(systemd.heard)

    assert asyncio.run(serve()) == "WATCHDOG=1"


@pytest.mark.parametrize(("seconds", "pid"), [(0.0, None), (0.02, 1)])
def test_who_is_not_watched_does_not_ping(
    systemd: Systemd, seconds: float, pid: int | None
) -> None:
    """Without an interval, or when systemd watches another process, such as the parent."""

    async def serve() -> None:
        async with announced(Manager(systemd.address, seconds, pid), lambda: [WELL]):
            for _ in range(10):
                await asyncio.sleep(0)

    asyncio.run(serve())
    assert systemd.all_heard() == ["READY=1", "STOPPING=1"]


def test_a_listener_that_is_gone_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The app serves all the same; the log says what did not arrive."""

    async def serve() -> str:
        async with announced(Manager(str(tmp_path / "nobody"), 0.02, None), lambda: [WELL]):
            return "served"

    assert asyncio.run(serve()) == "served"
    assert "READY=1 did not reach systemd" in caplog.text


def test_without_systemd_nothing_is_sent() -> None:
    """The environment of a start by hand asks for nothing."""

    async def serve() -> str:
        async with announced(Manager(), lambda: [WELL]):
            return "served"

    assert asyncio.run(serve()) == "served"


def test_the_environment_says_where_and_how_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """`NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`, as systemd sets them."""
    monkeypatch.setenv("NOTIFY_SOCKET", "@notify")
    monkeypatch.setenv("WATCHDOG_USEC", "180000000")
    monkeypatch.setenv("WATCHDOG_PID", "4711")
    assert read_manager() == Manager("@notify", 180.0, 4711)
    monkeypatch.setenv("WATCHDOG_USEC", "often")
    monkeypatch.setenv("NOTIFY_SOCKET", "")
    assert read_manager() == Manager(None, 0.0, 4711)
