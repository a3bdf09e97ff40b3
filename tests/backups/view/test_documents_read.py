"""How many manifests are read for what is asked with many restore points."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest

from backups.model import BackupSet
from shared.errors import ObjectExists
from tests.support.bench import Bench, open_bench
from tests.support.records import a_manifest, a_set

_MANY = 30


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A set of this installation, many older ones in the store, and all of them are known."""
    with open_bench(tmp_path, settings={}) as bench:
        bench.write("genset")
        made = bench.made()
        for hours in range(1, _MANY):
            one = a_set(made.created_at - timedelta(hours=hours), instance=made.instance)
            for stored in one.objects:
                with suppress(ObjectExists):  # of another set of that day
                    bench.store.put(stored.key, io.BytesIO(bytes(stored.bytes)), {})
            bench.store.put(bench.manifest_key(one.id), io.BytesIO(a_manifest(one)), {})
        assert bench.service.own_sets.refresh() is None
        yield bench


@contextmanager
def manifests_read(bench: Bench) -> Iterator[list[str]]:
    """The statements inside the block that read a manifest; each reads one."""
    read: list[str] = []

    def note(statement: str) -> None:
        if statement.startswith("SELECT 'manifest', "):
            read.append(statement)

    records = bench.known
    with records.reading() as connection:
        connection.set_trace_callback(note)
    yield read
    with records.reading() as connection:
        connection.set_trace_callback(None)


def all_sets(bench: Bench) -> list[BackupSet]:
    """Newest first."""
    return list(bench.service.catalogue.sets())


def test_listing_all_reads_every_manifest(bench: Bench) -> None:
    """What the tests below count is what reads manifests."""
    with manifests_read(bench) as read:
        assert len(all_sets(bench)) == _MANY
    assert len(read) == _MANY


def test_a_retention_plan_reads_the_newest_manifest_only(bench: Bench) -> None:
    """All is decided by the table of points; only the newest set is read."""
    known = {one.id for one in all_sets(bench)}
    with manifests_read(bench) as read:
        plan = bench.service.own_sets.plan_prune()
    kept, dropped = ({one.backup_set.id for one in part} for part in (plan.keep, plan.drop))
    assert kept | dropped == known
    assert len(set(read)) == 1


def test_a_restore_plan_of_the_latest_reads_one_manifest(bench: Bench) -> None:
    """The way to the data does not become longer with the number of restore points."""
    newest = all_sets(bench)[0]
    with manifests_read(bench) as read:
        assert bench.service.restore.plan().backup_set == newest
    assert len(read) == 1


def test_a_restore_plan_of_a_named_set_reads_one_manifest(bench: Bench) -> None:
    """However old it is."""
    oldest = all_sets(bench)[-1]
    with manifests_read(bench) as read:
        assert bench.service.restore.plan(oldest.id).backup_set == oldest
    assert len(read) == 1
