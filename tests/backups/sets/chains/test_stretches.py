"""Which points of known chains are good, with none missing between them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from backups.format import chain as chain_format
from backups.format.chain import Check
from backups.format.chain_keys import chain_id, check_key
from backups.model import BackupSet
from backups.sets.chains import objects_table
from backups.sets.chains.objects_table import ObjectRow
from backups.sets.chains.stretches import ChainStretch
from tests.support.bench import Bench
from tests.support.chain_rows import milliseconds, note_chain
from tests.support.marks import MARKS, PREFIX


@pytest.fixture
def full(bench: Bench) -> BackupSet:
    """What the chains hang on."""
    return bench.made()


def note(bench: Bench, full: BackupSet, *seconds: int, **other: object) -> str:
    """Enter a chain with points so many seconds after its full."""
    at = [full.created_at + timedelta(seconds=number) for number in seconds]
    return note_chain(bench.known, full.id, full.instance, at, **other)  # type: ignore[arg-type]


def shown(bench: Bench) -> list[tuple[int, int, bool, bool]]:
    """First and last number, whether it follows, and whether it is good."""
    found = bench.service.catalogue.chains.stretches(bench.service.own_sets.ours())
    return [(one.first, one.last, one.follows, one.good) for one in found]


def test_points_in_a_row(bench: Bench, full: BackupSet) -> None:
    """They are one stretch from the first instant to the last."""
    chain = note(bench, full, 0, 1, 7, end="clock")
    (found,) = bench.service.catalogue.chains.stretches(None)
    first = milliseconds(full.created_at)
    assert found == ChainStretch(chain, 1, 3, first, first + 7000, follows=True, ended="clock")


def test_nothing_counts_after_a_missing_number(bench: Bench, full: BackupSet) -> None:
    """What comes after it cannot be restored, and so is in no stretch."""
    note(bench, full, 0, 1, 2, 3, numbers=[1, 2, 4, 5])
    assert shown(bench) == [(1, 2, True, True)]


def test_a_differential_begins_a_stretch_after_a_gap(bench: Bench, full: BackupSet) -> None:
    """What comes after it does not follow what was before the gap."""
    chain = note(bench, full, 0, 1, 2, 3, numbers=[1, 2, 4, 5])
    with bench.known.transaction() as connection:
        row = ObjectRow("d", chain, "differential", 4, 4, 9, "valid")
        objects_table.note_object(connection, row)
    assert shown(bench) == [(1, 2, True, True), (4, 5, False, True)]


def test_what_is_not_proven_or_suspect(bench: Bench, full: BackupSet) -> None:
    """It is there, and is not good."""
    note(bench, full, 0, 1, 2, 3, 4, unproven=[5], suspect=[2])
    assert shown(bench) == [
        (1, 1, True, True),
        (2, 2, True, False),
        (3, 4, True, True),
        (5, 5, True, False),
    ]


def test_what_a_check_found(bench: Bench, full: BackupSet) -> None:
    """Everything after the last good point is not good."""
    chain = note(bench, full, 0, 1, 2, 3)
    key = check_key(PREFIX, chain, full.created_at)
    check = Check(1, chain, full.created_at, 2, "it differs")
    document = MARKS.sign(key, chain_format.dump(check))
    with bench.known.transaction() as connection:
        row = ObjectRow(key, chain, "check", 0, 0, len(document), "valid", document)
        objects_table.note_object(connection, row)
    assert shown(bench) == [(1, 2, True, True), (3, 4, True, False)]


def test_what_has_no_valid_mark_is_not_there(bench: Bench, full: BackupSet) -> None:
    """A point without a mark is a missing one."""
    note(bench, full, 0, 1, 2, unmarked=[2])
    assert shown(bench) == [(1, 1, True, True)]


def test_only_chains_of_ours(bench: Bench, full: BackupSet) -> None:
    """Another installation's points are not what this one can restore by a time."""
    note_chain(bench.known, full.id, "0123456789abcdef", [full.created_at])
    assert shown(bench) == []


def test_a_full_that_protects_nothing(bench: Bench) -> None:
    """A point is as good as its full at most."""
    full = bench.made(only="tokens")
    note(bench, full, 0, 1)
    assert shown(bench) == []


def test_a_chain_without_a_change(bench: Bench, full: BackupSet) -> None:
    """Its full is what the data is."""
    note(bench, full, began=full.created_at)
    (found,) = bench.service.catalogue.chains.stretches(None)
    at = milliseconds(full.created_at)
    chain = chain_id(full.id, full.instance)
    assert found == ChainStretch(chain, 0, 0, at, at, follows=True)


def test_a_pack_and_the_points_after_it(bench: Bench, full: BackupSet) -> None:
    """A pack has its points in a row, and its edges are known without reading it."""
    chain = note(bench, full, 4, 5, numbers=[4, 5])
    first = milliseconds(full.created_at)
    with bench.known.transaction() as connection:
        row = ObjectRow("p", chain, "pack", 1, 3, 9, "valid", None, first, first + 3000, 3)
        objects_table.note_object(connection, row)
    (found,) = bench.service.catalogue.chains.stretches(None)
    assert (found.first, found.last) == (1, 5)
    assert (found.first_instant, found.last_instant) == (first, first + 5000)
