"""Tests of `backups.format.manifest`."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from types import MappingProxyType
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backups.errors import ManifestInvalid, ManifestNewer
from backups.format import naming
from backups.format.manifest import FORMAT, dump_verdict, load_manifest, load_verdict, with_verdict
from backups.model import BackupSet, ProofLevel, SetKind, Trigger, Verdict
from tests.support import records
from tests.support.records import (
    INSTANT,
    INSTANTS,
    SOURCE_NAMES,
    a_manifest,
    a_stored_object,
)

# As a manifest alone says it: its mark is checked elsewhere.
a_set = partial(records.a_set, mark="unsigned", mark_key=None)

COUNTS = st.integers(0, 2**53)
SIZES = st.integers(0, 2**48)
HASHES = st.text("0123456789abcdef", min_size=64, max_size=64)
TEXTS = st.text(st.characters(codec="utf-8").filter(str.isprintable), max_size=40)
TABLES = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@st.composite
def sets(draw: st.DrawFn) -> BackupSet:
    instant = draw(INSTANTS)
    dated = draw(st.booleans())
    objects = tuple(
        a_stored_object(
            source,
            key=naming.data_key("backups/", source, instant, dated=dated),
            bytes=draw(SIZES),
            sha256=draw(HASHES),
            snapshot_bytes=draw(SIZES),
            snapshot_sha256=draw(HASHES),
            page_size=draw(st.sampled_from([512, 4096, 65536])),
            page_count=draw(st.integers(0, 2**32)),
            user_version=draw(st.integers(-(2**31), 2**31 - 1)),
            rows=draw(st.dictionaries(TABLES, COUNTS, max_size=4)),
            same_instant=draw(st.booleans()),
            journal_mode=draw(st.sampled_from(["wal", "delete"])),
        )
        for source in draw(st.lists(SOURCE_NAMES, min_size=1, max_size=8, unique=True))
    )
    return a_set(
        instant,
        kind=draw(st.sampled_from(get_args(SetKind))),
        trigger=draw(st.sampled_from(get_args(Trigger))),
        instance=draw(TEXTS),
        complete=draw(st.booleans()),
        proven_at=draw(INSTANTS),
        proof=draw(st.sampled_from(get_args(ProofLevel))),
        suspect=draw(st.none() | st.lists(TEXTS, min_size=1, max_size=3).map(tuple)),
        objects=objects,
        sequence=draw(st.none() | st.integers(1, 2**53)),
    )


@given(sets())
def test_a_manifest_gives_back_the_set(backup_set: BackupSet) -> None:
    """Every field of a set survives its manifest."""
    assert load_manifest(a_manifest(backup_set), prefix="backups/") == backup_set


@given(INSTANTS, INSTANTS, st.sampled_from(get_args(ProofLevel)), TEXTS)
def test_a_verdict_is_given_back(
    of: datetime, at: datetime, proof: ProofLevel, reason: str
) -> None:
    """Every field of a verdict survives its document."""
    verdict = Verdict(naming.set_id(of), at, proof, reason)

    assert load_verdict(dump_verdict(verdict), expected_id=verdict.set_id) == verdict


def test_a_manifest_cut_anywhere_is_refused() -> None:
    """A manifest without its last bytes is never taken for a smaller set."""
    document = a_manifest(a_set())

    for end in range(len(document) - 2):  # without its last newline it is still whole
        with pytest.raises(ManifestInvalid):
            load_manifest(document[:end], prefix="backups/", expected_id="20261122T010000Z")


def test_a_verdict_cut_anywhere_is_refused() -> None:
    """A verdict without its last bytes says nothing."""
    document = dump_verdict(Verdict("20261122T010000Z", INSTANT, "none", "bytes differ"))

    for end in range(len(document) - 2):
        with pytest.raises(ManifestInvalid):
            load_verdict(document[:end], expected_id="20261122T010000Z")


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_by_name(document: bytes) -> None:
    """Whatever is stored under a manifest's key, reading it ends in `ManifestInvalid`."""
    with pytest.raises(ManifestInvalid):
        load_manifest(document, prefix="backups/", expected_id="20261122T010000Z")


@pytest.mark.parametrize("version", [2, 3, 10**30])
def test_a_newer_format_asks_for_a_newer_program(version: int) -> None:
    """A later format is told apart from a damaged one, whatever else the document has."""
    document = json.dumps({"format": version, "new": ["shape"]}).encode()

    with pytest.raises(ManifestNewer, match=f"format {version}"):
        load_manifest(document, prefix="backups/")
    with pytest.raises(ManifestNewer, match=f"format {version}"):
        load_verdict(document, expected_id="20261122T010000Z")


@pytest.mark.parametrize("version", [0, -1, "1", "2", None, [1], 1.5])
def test_no_known_format_is_refused(version: object) -> None:
    """Without a format of ours nothing is read."""
    with pytest.raises(ManifestInvalid) as caught:
        load_manifest(changed(format=version), prefix="backups/")

    assert not isinstance(caught.value, ManifestNewer)


def changed(**members: Any) -> bytes:
    """A good manifest with some members in place of its own."""
    return json.dumps({**json.loads(a_manifest(a_set())), **members}).encode()


def with_object(**members: Any) -> bytes:
    """A good manifest whose first object has some members in place of its own."""
    document = json.loads(a_manifest(a_set()))
    document["objects"][0].update(members)
    return json.dumps(document).encode()


def without(*path: str | int) -> bytes:
    """A good manifest that lacks one member."""
    document = json.loads(a_manifest(a_set()))
    holder = document
    for step in path[:-1]:
        holder = holder[step]
    del holder[path[-1]]
    return json.dumps(document).encode()


def test_the_manifest_that_the_next_tests_change_is_good() -> None:
    """Unchanged, it is read: so each refusal below is for the one change made."""
    assert load_manifest(changed(), prefix="backups/", expected_id="20261122T010000Z") == a_set()
    assert load_manifest(with_object(), prefix="backups/") == a_set()


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(changed(id="20261122T010001Z"), id="id of another set"),
        pytest.param(changed(instant="2026-11-22T01:00:01Z"), id="id is not its instant"),
        pytest.param(changed(instant="2026-11-22T01:00:00+01:00"), id="instant in another zone"),
        pytest.param(changed(instant="2026-11-22T01:00:00"), id="instant without a zone"),
        pytest.param(changed(instant="yesterday"), id="no instant"),
        pytest.param(changed(objects=[]), id="no objects"),
        pytest.param(changed(objects={}), id="objects are no list"),
        pytest.param(changed(kind="other"), id="unknown kind"),
        pytest.param(changed(trigger="other"), id="unknown trigger"),
        pytest.param(changed(proof="other"), id="unknown proof"),
        pytest.param(changed(complete="perhaps"), id="complete is no bool"),
        pytest.param(changed(complete="yes"), id="complete is a word for true"),
        pytest.param(changed(proven_at=1795914000), id="proven at a number"),
        pytest.param(changed(format=True), id="format is a truth"),
        pytest.param(changed(proven_at=None), id="never proven"),
        pytest.param(changed(suspect="a text"), id="suspect is no list"),
        pytest.param(changed(sequence=0), id="sequence zero"),
        pytest.param(changed(sequence=-1), id="negative sequence"),
        pytest.param(changed(sequence=2**53 + 1), id="sequence above what JSON counts to"),
        pytest.param(changed(sequence=10**30), id="huge sequence"),
        pytest.param(changed(sequence=True), id="sequence is a truth"),
        pytest.param(changed(sequence=7.0), id="sequence as a fraction"),
        pytest.param(changed(sequence="7"), id="sequence as a text"),
        pytest.param(with_object(key="backups/../tokens_2026-11-22.db"), id=".. in the key"),
        pytest.param(with_object(key="../backups/tokens_2026-11-22.db"), id=".. before the prefix"),
        pytest.param(with_object(key="other/tokens_2026-11-22.db"), id="outside the prefix"),
        pytest.param(with_object(key="tokens_2026-11-22.db"), id="above the prefix"),
        pytest.param(with_object(key="/etc/tokens_2026-11-22.db"), id="absolute"),
        pytest.param(with_object(key="backups/sub/tokens_2026-11-22.db"), id="in a folder"),
        pytest.param(with_object(key="backups/sessions_2026-11-22.db"), id="of another source"),
        pytest.param(with_object(key="backups/tokens_2026-11-22.db\n"), id="newline in the key"),
        pytest.param(with_object(key=""), id="empty key"),
        pytest.param(with_object(source="sessions"), id="source twice"),
        pytest.param(with_object(source="../tokens"), id=".. in the source"),
        pytest.param(with_object(source="Tokens"), id="no name of a source"),
        pytest.param(with_object(source="tokens\n"), id="newline in the source"),
        pytest.param(with_object(bytes=-1), id="negative bytes"),
        pytest.param(with_object(bytes=1.5), id="half a byte"),
        pytest.param(with_object(bytes=None), id="no bytes"),
        pytest.param(with_object(bytes="8192"), id="bytes as a text"),
        pytest.param(with_object(bytes=8192.0), id="bytes as a fraction"),
        pytest.param(with_object(bytes=float("nan")), id="bytes that are no number"),
        pytest.param(with_object(bytes=float("inf")), id="endless bytes"),
        pytest.param(with_object(unreadable=True), id="a count as a truth"),
        pytest.param(with_object(unreadable=-1), id="negative unreadable"),
        pytest.param(with_object(rows={"tokens": "3"}), id="rows as a text"),
        pytest.param(with_object(same_instant=1), id="a truth as a number"),
        pytest.param(with_object(same_instant="true"), id="a truth as a text"),
        pytest.param(with_object(key=7), id="a key as a number"),
        pytest.param(with_object(snapshot_bytes=-1), id="negative snapshot bytes"),
        pytest.param(with_object(page_size=0), id="page size zero"),
        pytest.param(with_object(page_size=-4096), id="negative page size"),
        pytest.param(with_object(page_count=-1), id="negative page count"),
        pytest.param(with_object(rows={"tokens": -1}), id="negative rows"),
        pytest.param(with_object(rows=[1]), id="rows are no mapping"),
        pytest.param(with_object(sha256="a" * 63), id="short hash"),
        pytest.param(with_object(sha256="a" * 65), id="long hash"),
        pytest.param(with_object(sha256="A" * 64), id="upper-case hash"),
        pytest.param(with_object(sha256="g" * 64), id="no hex"),
        pytest.param(with_object(sha256="a" * 64 + "\n"), id="newline behind the hash"),
        pytest.param(with_object(snapshot_sha256="a" * 63), id="short snapshot hash"),
        pytest.param(b"[" * 100_000, id="deep nesting"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b"null", id="null"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"\xff\xfe", id="no UTF-8"),
        *(
            pytest.param(without(name), id=f"without {name}")
            for name in json.loads(a_manifest(a_set()))
            if name not in ("suspect", "token_key", "recipients", "sequence")
        ),
        *(
            pytest.param(without("objects", 0, name), id=f"object without {name}")
            for name in ("source", "key", "bytes", "sha256", "snapshot_sha256", "rows")
        ),
    ],
)
def test_what_a_stranger_may_have_written_is_refused(document: bytes) -> None:
    """Nothing of a manifest is used unless all of it is as this program writes it."""
    with pytest.raises(ManifestInvalid):
        load_manifest(document, prefix="backups/", expected_id="20261122T010000Z")


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("instant", "0001-01-01T00:00:00+14:00"),
        ("instant", "9999-12-31T23:59:59-14:00"),
        ("proven_at", "0001-01-01T00:00:00+14:00"),
        ("proven_at", "9999-12-31T23:59:59-14:00"),
    ],
)
def test_a_time_that_has_no_utc_is_refused_by_name(member: str, value: str) -> None:
    """A time at the edge of the calendar is a bad manifest, not a fault of this program."""
    set_id = f"{value[:10].replace('-', '')}T000000Z" if member == "instant" else None
    document = changed(**{member: value}, **({"id": set_id} if set_id else {}))

    with pytest.raises(ManifestInvalid):
        load_manifest(document, prefix="backups/", expected_id=set_id)


def test_a_verdict_whose_time_has_no_utc_is_refused_by_name() -> None:
    """The same holds for the time of a verdict."""
    verdict = json.loads(dump_verdict(Verdict("20261122T010000Z", INSTANT, "none", "gone")))
    document = json.dumps({**verdict, "at": "0001-01-01T00:00:00+14:00"}).encode()

    with pytest.raises(ManifestInvalid):
        load_verdict(document, expected_id="20261122T010000Z")


def test_a_verdict_on_another_set_is_refused() -> None:
    """A verdict counts only for the set in whose folder it lies."""
    document = dump_verdict(Verdict("20261122T010001Z", INSTANT, "none", "gone"))

    with pytest.raises(ManifestInvalid, match="20261122T010001Z"):
        load_verdict(document, expected_id="20261122T010000Z")


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document | {"proof": "perhaps"},
        lambda document: document | {"at": "2026-11-22"},
        lambda document: document | {"at": 1795914000},
        lambda document: document | {"set_id": None},
        lambda document: {name: document[name] for name in document if name != "proof"},
    ],
)
def test_a_malformed_verdict_is_refused(
    change: Callable[[dict[str, Any]], dict[str, Any]],
) -> None:
    """A verdict that does not say what, when and of which set is no verdict."""
    document = json.loads(dump_verdict(Verdict("20261122T010000Z", INSTANT, "none", "gone")))

    with pytest.raises(ManifestInvalid):
        load_verdict(json.dumps(change(document)).encode(), expected_id="20261122T010000Z")


def test_members_of_a_later_program_are_ignored() -> None:
    """A manifest of this format with more in it than we know is read."""
    document = with_object(colour="blue")

    assert load_manifest(document, prefix="backups/") == a_set()
    assert load_manifest(changed(colour="blue"), prefix="backups/") == a_set()


def test_the_message_says_which_set_and_what_is_wrong() -> None:
    """An operator learns the set and the member, and never sees the stranger's text at length."""
    with pytest.raises(ManifestInvalid) as caught:
        load_manifest(with_object(bytes=-1), prefix="backups/", expected_id="20261122T010000Z")

    assert "20261122T010000Z" in caught.value.message
    assert "objects.0.bytes" in caught.value.message
    assert caught.value.hint


def test_the_members_are_those_that_are_documented() -> None:
    """The document has the members of docs/format.md, in JSON with UTC times."""
    document = json.loads(a_manifest(a_set()))

    assert document["format"] == FORMAT == 1
    assert document["id"] == "20261122T010000Z"
    assert document["instant"] == "2026-11-22T01:00:00Z"
    assert document["proven_at"] == "2026-11-22T01:00:00Z"
    assert document["objects"][0]["rows"] == {"tokens": 3}
    assert set(document) >= {
        "format", "id", "kind", "instant", "trigger", "instance", "complete", "proof",
        "proven_at", "suspect", "application", "sqlite", "objects",
    }  # fmt: skip
    assert set(document["objects"][0]) >= {
        "source", "key", "bytes", "sha256", "snapshot_bytes", "snapshot_sha256", "page_size",
        "page_count", "user_version", "rows", "same_instant", "journal_mode",
    }  # fmt: skip


def test_the_bytes_of_a_manifest() -> None:
    """A manifest is these bytes: what older programs wrote and later ones will read."""
    stored = a_stored_object(rows=MappingProxyType({"tokens": 3}))
    backup_set = a_set(objects=(stored,), sequence=7)
    document = """{
  "format": 1,
  "id": "20261122T010000Z",
  "kind": "set",
  "instant": "2026-11-22T01:00:00Z",
  "trigger": "scheduled",
  "instance": "0123456789abcdef",
  "complete": true,
  "proof": "full",
  "proven_at": "2026-11-22T01:00:00Z",
  "application": "the tests",
  "sqlite": "3.40.1",
  "objects": [
    {
      "source": "tokens",
      "key": "backups/tokens_2026-11-22.db",
      "bytes": 8192,
      "sha256": "HASH",
      "snapshot_bytes": 8192,
      "snapshot_sha256": "HASH",
      "page_size": 4096,
      "page_count": 2,
      "user_version": 1,
      "rows": {
        "tokens": 3
      },
      "same_instant": true,
      "journal_mode": "wal",
      "schema": "",
      "unreadable": 0,
      "finding": ""
    }
  ],
  "suspect": null,
  "token_key": null,
  "recipients": [],
  "sequence": 7
}
"""
    assert a_manifest(backup_set).decode() == document.replace("HASH", "a" * 64)


def test_a_set_without_a_proof_has_no_manifest() -> None:
    """Nothing unproven can be published by mistake."""
    with pytest.raises(ValueError, match="proof"):
        a_manifest(a_set(proven_at=None))


def test_a_failed_proof_ends_the_protection() -> None:
    """After a verdict of `none` a set is neither proven nor what `latest` means."""
    failed = with_verdict(
        records.a_set(), Verdict("20261122T010000Z", INSTANT, "none", "bytes differ")
    )

    assert (failed.proof, failed.proven_at, failed.protects) == ("none", None, False)


def test_a_good_proof_renews_the_protection() -> None:
    """After a verdict of `full` a set is proven as of then."""
    later = INSTANT + timedelta(days=9)

    proven = with_verdict(
        records.a_set(proof="none", proven_at=INSTANT),
        Verdict("20261122T010000Z", later, "full", ""),
    )

    assert (proven.proof, proven.proven_at, proven.protects) == ("full", later, True)


@pytest.mark.parametrize(
    ("fields", "protects"),
    [
        ({}, True),
        ({"proof": "sealed"}, True),
        ({"proof": "none"}, False),
        ({"proven_at": None}, False),
        ({"complete": False}, False),
        ({"suspect": ("half the rows are gone",)}, False),
        ({"kind": "pre-restore"}, False),
        ({"kind": "legacy"}, False),
        ({"mark": "unsigned"}, False),
        ({"mark": "unknown_key"}, False),
        ({"mark": "wrong"}, False),
    ],
)
def test_only_a_marked_complete_proven_unsuspected_set_protects(
    fields: dict[str, Any], protects: bool
) -> None:
    """What `latest` can mean is decided in one place, for every combination that matters."""
    assert records.a_set(**fields).protects is protects
