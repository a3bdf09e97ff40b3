"""What others feel of a backup: the topics `writers` and `answers`, from the app to the budgets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from benchmarks.budgets import budgets
from benchmarks.contenders import floor
from benchmarks.databases import Values
from benchmarks.place import Place
from benchmarks.plan import Plan
from benchmarks.results import Results
from benchmarks.topics import answers, writers
from tests.support.s3_server import S3Server

MEGABYTES = 1  # a backup takes long enough for some commits and answers
OURS = ("ours in the app, plain", "ours in the app, zstd", "ours as a command, zstd")
CONTROLS = ("a bare PUT, zstd", "one busy processor")
WAYS = ("", ", store yields")


class OrdinaryPlace(Place):
    """A place whose other store is taken for one that yields; see `test_place` for a real one.

    Beside other tests that compute, a store that yields would not answer for minutes.
    """

    @contextmanager
    def yielding(self) -> Iterator[Place]:
        """The same place."""
        yield replace(self, yields=True)


@pytest.fixture
def place(s3_server: S3Server, tmp_path: Path) -> Place:
    """A place with an ordinary server."""
    key = Fernet.generate_key().decode()
    return OrdinaryPlace(tmp_path, s3_server, key, Values(key, 30), s3_server.endpoint)


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> Plan:
    """One short round, beside no peer."""
    monkeypatch.setattr(floor, "LEAST_SECONDS", 0.3)
    monkeypatch.setattr(answers, "BODIES", 3000)  # of fifteen seconds
    monkeypatch.setattr(writers, "PATIENCE_SECONDS", 200.0)  # on a busy machine
    made = replace(Plan.of((MEGABYTES,), 1, {}, quick=True), idle_seconds=0.3)
    assert made.busy_size == MEGABYTES
    return made


def measured(topic: Callable[[Plan, Place, Results], None], plan: Plan, place: Place) -> Results:
    """What a topic finds."""
    results = Results("python -m benchmarks", "this host", {})
    topic(plan, place, results)
    return results


def of_commits(results: Results) -> Sequence[str]:
    """The names of the budgets that compare commits."""
    return [one.name for one in budgets(results) if "p99 of a commit" in one.name]


def test_writers_are_watched_beside_all_of_ours_and_beside_no_backup(
    plan: Plan, place: Place
) -> None:
    """Each has its latencies without and during a backup, beside both stores, and its ratio."""
    results = measured(writers.measure, plan, place)
    for way in WAYS:
        for who in (*OURS, *CONTROLS):
            for what in ("p50 idle", "p99 idle", "max busy", "lock wait max busy"):
                found = results.find(writers.TOPIC, MEGABYTES, who + way, what)
                assert found is not None, (who + way, what)
                assert found.least > 0
        for who in (*OURS[:2], *CONTROLS):
            assert f"writers beside {who}{way}: p99 of a commit, of idle" in of_commits(results)
    assert results.notes == []


def test_answers_are_watched_in_a_thread_in_a_child_and_beside_no_backup(
    plan: Plan, place: Place
) -> None:
    """Each way has its latencies and stalls, beside both stores, and its ratio to idle."""
    results = measured(answers.measure, plan, place)
    told = {one.name: one for one in budgets(results)}
    for way in WAYS:
        for who in (answers.IDLE, answers.IN_THREAD, answers.IN_CHILD, *CONTROLS):
            for what in ("answer p50", "answer p99", "answer p99.9", answers.STALL):
                found = results.find(answers.TOPIC, MEGABYTES, who + way, what)
                assert found is not None, (who + way, what)
                assert found.least > 0
        for who in (answers.IN_THREAD, answers.IN_CHILD, *CONTROLS):
            ratio = told[f"answers, {who}{way}: p99, of idle"]
            assert (ratio.limit is None) is (who in CONTROLS)
            assert ratio.measured > 0
    assert results.notes == ["answers: POST /facebook/webhook at 200 requests a second"]
