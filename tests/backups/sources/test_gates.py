"""The gates: they close although no moment comes by itself in which all writers stand still."""

from __future__ import annotations

import sqlite3
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from backups.model import Progress, Source
from backups.sources.pins import open_pin, pin_together
from shared.clock import SystemClock
from tests.support.databases import make_sources


class _Writer:
    """Has the lock of the one source or of the other, but where it waits for the next one."""

    def __init__(self, stack: ExitStack, sources: tuple[Source, Source]) -> None:
        self._here, self._there = (
            stack.enter_context(closing(sqlite3.connect(one.path, timeout=0, isolation_level=None)))
            for one in sources
        )
        self._here.execute("BEGIN IMMEDIATE")

    def go_on(self, _: float) -> None:
        """End the transaction, and begin the next, if that lock is free."""
        if self._here.in_transaction:
            self._here.execute("COMMIT")
        try:
            self._there.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return
        self._here, self._there = self._there, self._here


def test_a_writer_that_goes_from_one_source_to_the_next_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No lock is ever free at the time of the other: one is held, and the writer comes to it."""
    tokens, sessions = make_sources(tmp_path / "data")
    tries: list[Progress] = []
    with ExitStack() as stack:
        pins = [open_pin(stack, source, 30) for source in (tokens, sessions)]
        writer = _Writer(stack, (tokens, sessions))
        # It goes on whenever the gates pause.
        monkeypatch.setattr("backups.sources.pins.time.sleep", writer.go_on)
        pin_together(pins, SystemClock(), 30, tries.append)
        assert all(pin.connection.in_transaction for pin in pins)
    assert tries, "no lock is held for others' sake before it is needed"
