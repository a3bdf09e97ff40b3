"""Whom the documents of the installations are believed from: those with a mark of today's keys."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from backups.format import naming
from backups.format.instance import InstanceDocument, dump_instance, load_instance
from backups.format.mark import Marks
from backups.host import machine
from backups.host.directory import BackupDirectory
from backups.model import Source
from backups.operations.writers import Writers
from tests.support.bench import PREFIX, Bench, open_bench
from tests.support.clock import FixedClock
from tests.support.databases import make_sources
from tests.support.marks import a_token_key, mark_key_of
from tests.support.store_wrappers import WatchedStore

OURS = (mark_key_of(a_token_key("ours")),)
OTHER = "f" * 32

Open = Callable[..., Bench]


@pytest.fixture(autouse=True)
def machine_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with an id, so that a document can say that it was this one."""
    path = tmp_path / "machine-id"
    path.write_text("0123456789abcdef" * 2 + "\n")
    monkeypatch.setattr(machine, "MACHINE_ID", path)


@pytest.fixture
def opened(tmp_path: Path, store: WatchedStore, clock: FixedClock) -> Iterator[Open]:
    """Opens a bench over the same store and data, by default with our key."""
    sources: list[Source] = list(make_sources(tmp_path / "data", 60))
    with ExitStack() as stack:

        def opening(**changes: Any) -> Bench:
            changes.setdefault("mark_keys", OURS)
            return stack.enter_context(
                open_bench(tmp_path, store, clock=clock, sources=sources, **changes)
            )

        yield opening


def writers(bench: Bench) -> Writers:
    return bench.service.writers


def own_document(bench: Bench) -> InstanceDocument:
    """The newest document of the bench's own installation."""
    found = []
    for one in bench.store.list(naming.instances_prefix(PREFIX)):
        parsed = naming.parse_instance_document_key(PREFIX, one.key)
        if parsed and parsed[0] == bench.directory.instance():
            found.append((parsed[1], one.key))
    at, key = max(found)
    return load_instance(bench.bytes_of(key), instance=bench.directory.instance(), at=at)


def put(bench: Bench, document: InstanceDocument, by: str | None = None) -> None:
    """Store a document as the key of this name marks it, or without a mark."""
    key = naming.instance_document_key(PREFIX, document.instance, document.at)
    body = dump_instance(document)
    if by is not None:
        body = Marks([mark_key_of(a_token_key(by))], PREFIX).sign(key, body)
    bench.store.put(key, io.BytesIO(body), {})


@pytest.mark.parametrize("by", [None, "theirs"])
def test_a_planted_document_of_this_very_folder_adopts_nothing(
    opened: Open, clock: FixedClock, by: str | None
) -> None:
    """Machine and path can be read in the store, so only a mark of ours proves that it was us."""
    theirs = opened(directory="elsewhere", mark_keys=())
    theirs.made()
    planted = theirs.directory.instance()
    bench = opened()
    clock.advance(days=5)
    bench.made()
    own = own_document(bench)
    put(bench, replace(own, instance=planted, at=own.at + timedelta(seconds=1)), by)
    clock.advance(days=5)

    bench.made()

    assert planted not in bench.service.own_sets.ours()


@pytest.mark.parametrize("by", [None, "theirs"])
def test_a_planted_document_of_this_installation_names_no_predecessor(
    opened: Open, clock: FixedClock, by: str | None
) -> None:
    """A newer document under our own id is not believed, and the newest of ours still is."""
    bench = opened()
    bench.facts.succeed("e" * 32)
    bench.made()
    own = own_document(bench)
    put(bench, replace(own, succeeds=(OTHER,), at=own.at + timedelta(seconds=1)), by)
    for file in bench.directory.path.glob("runs.db*"):
        file.unlink()
    clock.advance(minutes=1)

    bench.made()

    assert set(bench.facts.predecessors()) == {"e" * 32}


def test_a_planted_document_hides_no_believed_one(opened: Open, clock: FixedClock) -> None:
    """The newest document with a mark counts, whatever lies above it."""
    bench = opened()
    bench.made()
    own = own_document(bench)
    put(bench, replace(own, instance=OTHER, succeeds=("e" * 32,)), "ours")
    for second in range(1, 4):
        at = own.at + timedelta(seconds=second)
        put(bench, replace(own, instance=OTHER, at=at, host="planted"))
    clock.advance(minutes=1)

    writers(bench).look()

    assert writers(bench).documents()[OTHER].succeeds == ("e" * 32,)
    assert writers(bench).host_of(OTHER) == own.host


def test_what_an_unmarked_document_calls_its_host_is_told_as_its_claim(opened: Open) -> None:
    """It names no predecessor, and no machine: a person may still want to know the name."""
    bench = opened()
    bench.made()
    put(bench, replace(own_document(bench), instance=OTHER, host="old-1", succeeds=("e" * 32,)))

    writers(bench).look()

    assert OTHER not in writers(bench).documents()
    assert writers(bench).host_of(OTHER) == "old-1 (so says a document without a mark)"


def test_what_a_version_without_marks_had_read_is_read_again(opened: Open) -> None:
    """Records that were noted without keys, or with others, are not believed."""
    before = opened(mark_keys=())
    before.made()
    put(before, replace(own_document(before), instance=OTHER))
    writers(before).look()
    assert OTHER in writers(before).documents()

    assert writers(opened()).documents() == {}
    assert OTHER in writers(opened(mark_keys=())).documents()


def test_a_document_says_since_when_its_installation_marks(opened: Open, clock: FixedClock) -> None:
    """The time is that of the first start, and is learnt again when the records are lost."""
    since = clock.now()
    bench = opened()
    bench.service.upgrade_marks.note()
    clock.advance(days=1)
    bench.made()
    assert own_document(bench).marking_since == since
    for file in bench.directory.path.glob("runs.db*"):
        file.unlink()
    clock.advance(days=1)

    anew = opened()
    anew.service.upgrade_marks.note()
    anew.made()

    assert anew.facts.marking_since() == since
    assert own_document(anew).marking_since == since


def test_a_lost_folder_is_still_adopted(tmp_path: Path, opened: Open, clock: FixedClock) -> None:
    """A document with our mark says who this was, as before."""
    lost = opened().made().instance
    shutil.rmtree(tmp_path / "data" / "backups")
    clock.advance(days=5)

    bench = opened()
    bench.made()
    clock.advance(days=2)
    bench.made()

    assert BackupDirectory(tmp_path / "data" / "backups").instance() != lost
    assert lost in bench.service.own_sets.ours()
