"""A document that the store has, but does not return: it is named, and hides nothing else.

Over a real S3 server, behind a proxy that refuses single keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from backups.decisions.retention import RetentionPolicy
from backups.doctor import examine
from backups.errors import ManifestUnread
from backups.format import naming
from backups.model import BackupSet, DrillReport, Verdict
from shared.errors import DatabaseMissing, StoreFailing
from shared.store.spaces import SpacesStore
from tests.backups.conftest import SharedBucket
from tests.support.bench import PREFIX, Bench, open_bench
from tests.support.clock import FixedClock
from tests.support.fault_proxy import Fault, FaultProxy, refuse
from tests.support.installation import Installation, installation_in, settings_of, spaces
from tests.support.marks import signed_proof
from tests.support.store_wrappers import put

pytestmark = pytest.mark.slow

NOTHING = RetentionPolicy(changes_hours=0, all_days=0, daily=0, weekly=0, monthly=0, yearly=0)
FAULTS = pytest.mark.parametrize(
    "fault",
    [
        refuse(403, "AccessDenied"),
        refuse(403, "InvalidObjectState"),
        refuse(500, "InternalError"),
    ],
    ids=["no right", "archived", "500"],
)


@pytest.fixture
def proxy(empty_bucket: SharedBucket) -> Iterator[FaultProxy]:
    """A proxy before the bucket."""
    with FaultProxy(empty_bucket.settings.endpoint) as proxy:
        yield proxy


@pytest.fixture
def store(proxy: FaultProxy, empty_bucket: SharedBucket) -> SpacesStore:
    """The bucket behind the proxy; the pauses between attempts are the SDK's, and long."""
    return SpacesStore(proxy.settings(empty_bucket.settings), attempts=1)


@pytest.fixture
def bench(tmp_path: Path, store: SpacesStore, clock: FixedClock) -> Iterator[Bench]:
    """The host that has made the sets."""
    with open_bench(tmp_path, store, rows=3, clock=clock, local_copies=0) as bench:
        yield bench


@pytest.fixture
def new_host(
    bench: Bench, tmp_path: Path, store: SpacesStore, clock: FixedClock
) -> Iterator[Bench]:
    """Another host, which knows nothing yet, with the same databases and the same sets as its own;
    its policy keeps the newest set only."""
    with open_bench(
        tmp_path,
        store,
        sources=bench.sources,
        directory="new",
        clock=clock,
        retention=NOTHING,
        local_copies=0,
    ) as new:
        new.facts.succeed(bench.directory.instance())
        yield new


@pytest.fixture
def sets(bench: Bench, clock: FixedClock) -> list[BackupSet]:
    """Three sets, oldest first, a day apart."""
    made = []
    for _ in range(3):
        made.append(bench.made())
        clock.advance(days=1)
    return made


def warned(bench: Bench) -> str:
    """What status says of documents that cannot be read; empty when it says nothing."""
    found = bench.service.status().health.warnings
    return "".join(one.message for one in found if one.code == "document_unread")


@FAULTS
@pytest.mark.parametrize("place", [0, 1, 2], ids=["oldest", "middle", "newest"])
def test_a_manifest_that_is_not_returned_hides_no_other_set(
    new_host: Bench, sets: list[BackupSet], proxy: FaultProxy, fault: Fault, place: int
) -> None:
    """A new host lists, restores and names the rest; once the store returns it, all is known."""
    hidden = sets[place]
    others = [one.id for one in reversed(sets) if one is not hidden]
    proxy.on(fault, method="GET", key=f"{hidden.id}/manifest")

    new_host.service.catalogue.refresh()

    assert [one.id for one in new_host.service.catalogue.sets()] == others
    assert hidden.id in warned(new_host)
    with pytest.raises(ManifestUnread, match=hidden.id):
        new_host.service.catalogue.get(hidden.id)
    plan = new_host.service.restore.plan()
    assert plan.backup_set.id == others[0]
    newer = [one for one in plan.warnings if one.code == "newer_unread"]
    assert [hidden.id in one.message for one in newer] == ([True] if place == 2 else [])
    new_host.restored()
    proxy.lift()
    new_host.service.catalogue.refresh()
    assert len(list(new_host.service.catalogue.sets())) == 4  # with what the restore replaced
    assert warned(new_host) == ""


def test_what_archived_means_is_said(
    new_host: Bench, sets: list[BackupSet], proxy: FaultProxy
) -> None:
    """`InvalidObjectState` is not a lack of rights: the message says that it is archived."""
    proxy.on(refuse(403, "InvalidObjectState"), method="GET", key=f"{sets[0].id}/manifest")
    new_host.service.catalogue.refresh()
    assert "archived" in warned(new_host)
    assert "right" not in warned(new_host)


@FAULTS
def test_prune_goes_on_and_leaves_the_unread_set_alone(
    new_host: Bench, sets: list[BackupSet], proxy: FaultProxy, clock: FixedClock, fault: Fault
) -> None:
    """The prune of a new host succeeds, drops what no rule keeps, and deletes nothing of a set that
    it cannot read, however old its objects are."""
    hidden, dropped, newest = sets
    before = {key for key in new_host.all_keys() if hidden.id in key}
    before |= {stored.key for stored in hidden.objects}
    proxy.on(fault, key=f"{hidden.id}/manifest")
    clock.advance(days=400)

    run = new_host.prune()

    assert run.status == "succeeded", run.error
    proxy.lift()
    assert new_host.stored_ids() == [hidden.id, newest.id]
    assert before <= set(new_host.all_keys())
    assert not {stored.key for stored in dropped.objects} & set(new_host.all_keys())


@FAULTS
def test_restore_on_empty_goes_on(
    new_host: Bench, sets: list[BackupSet], proxy: FaultProxy, fault: Fault
) -> None:
    """A start with missing databases restores the newest set that can be read."""
    proxy.on(fault, method="GET", key=f"{sets[0].id}/manifest")
    for source in new_host.sources:
        source.path.unlink()
    run = new_host.service.restore_on_empty.restore_missing()
    assert run is not None
    assert (run.status, run.set_id) == ("succeeded", sets[2].id)


def test_restore_on_empty_does_not_begin_empty_beside_sets_that_it_cannot_read(
    new_host: Bench, sets: list[BackupSet], proxy: FaultProxy
) -> None:
    """Where no manifest is returned, the start is refused and names the newest set."""
    proxy.on(refuse(403, "AccessDenied"), method="GET", key="/manifest")
    for source in new_host.sources:
        source.path.unlink()
    with pytest.raises(DatabaseMissing, match=sets[2].id):
        new_host.service.restore_on_empty.restore_missing()


def test_an_empty_database_beside_sets_that_cannot_be_read_is_suspect(
    new_host: Bench, sets: list[BackupSet], proxy: FaultProxy, clock: FixedClock
) -> None:
    """What was begun empty is a problem, although no older set could be read."""
    proxy.on(refuse(403, "AccessDenied"), method="GET", key="/manifest")
    new_host.service.catalogue.refresh()
    clock.advance(days=1)
    new_host.facts.note_started_empty("tokens", clock.now())
    assert list(new_host.service.own_sets.started_empty()) == ["tokens"]


def test_many_manifests_that_are_not_returned_hide_no_other_set(
    new_host: Bench, bench: Bench, sets: list[BackupSet], proxy: FaultProxy, clock: FixedClock
) -> None:
    """A lasting 500 for more manifests in a row than are tried without a probe hides no other."""
    for _ in range(2):
        sets.append(bench.made())
        clock.advance(days=1)
    for hidden in sets[:4]:
        proxy.on(refuse(500, "InternalError"), method="GET", key=f"{hidden.id}/manifest")
    for _ in range(2):
        new_host.service.catalogue.refresh()
        assert [one.id for one in new_host.service.catalogue.sets()] == [sets[4].id]
    assert new_host.service.catalogue.unread.sets() == [one.id for one in reversed(sets[:4])]


def test_a_store_that_returns_no_manifest_is_failing(
    new_host: Bench, sets: list[BackupSet], proxy: FaultProxy
) -> None:
    """Where every one of some manifests is answered with 500, that is an error of the store."""
    proxy.on(refuse(500, "InternalError"), method="GET", key="/manifest")
    with pytest.raises(StoreFailing):
        new_host.service.catalogue.refresh()


def test_list_and_doctor_name_it(
    bench: Bench,
    new_host: Bench,
    sets: list[BackupSet],
    proxy: FaultProxy,
    empty_bucket: SharedBucket,
) -> None:
    """`list` names it on standard error and prints the others as ever; doctor has a line of it."""
    proxy.on(refuse(403, "AccessDenied"), method="GET", key=f"{sets[0].id}/manifest")
    installation: Installation = installation_in(
        bench.folder, **spaces(proxy.settings(empty_bucket.settings))
    ).with_settings(BACKUP_DIR=str(bench.folder / "cli"))
    done = installation.cli("list", "--json")
    assert done.returncode == 0, done.stderr
    assert f"{sets[0].id}/manifest.json" in done.stderr
    document = installation.json("list")
    assert set(document) == {"sets", "ranges", "next", "listed_at", "error"}
    assert [one["id"] for one in document["sets"]] == [sets[2].id, sets[1].id]
    found = examine(settings_of(installation), new_host.service)
    (line,) = [one for one in found.lines if "[document_unread]" in one.message]
    assert (line.level, sets[0].id in line.message) == ("warning", True)
    assert [one for one in found.lines if one.message.endswith("can be read")]


# --- documents beside a manifest, and others ---------------------------------------------------


@FAULTS
@pytest.mark.parametrize("kind", ["proof", "accept", "drill", "aside"])
def test_a_verdict_that_is_not_returned_stops_nothing_and_keeps_its_set(
    new_host: Bench,
    bench: Bench,
    sets: list[BackupSet],
    proxy: FaultProxy,
    clock: FixedClock,
    fault: Fault,
    kind: str,
) -> None:
    """All sets are listed, the verdict is named, and its set is not dropped: nobody knows what it
    says of it."""
    judged = sets[0].id
    if kind == "proof":
        assert bench.verify(judged).status == "succeeded"
    elif kind == "accept":
        bench.service.acceptance.accept(judged)
    elif kind == "drill":
        report = DrillReport(judged, clock.now(), 1.0, 3, 0, None)
        bench.service.drill.verdicts.note_drill(report)
    else:
        key = naming.document_key(PREFIX, judged, f"aside-{naming.stamp(clock.now())}")
        put(bench.store, key, b"whatever it says")
    proxy.on(fault, method="GET", key=f"{judged}/{kind}-")
    clock.advance(days=400)

    run = new_host.prune()

    assert run.status == "succeeded", run.error
    assert f"{judged}/{kind}-" in warned(new_host)
    assert new_host.stored_ids() == [judged, sets[2].id]


@FAULTS
def test_an_unread_proof_of_the_newest_set_keeps_the_one_before(
    new_host: Bench,
    bench: Bench,
    sets: list[BackupSet],
    proxy: FaultProxy,
    clock: FixedClock,
    fault: Fault,
) -> None:
    """The newest set may have failed its last proof: the newest that is sure to be good stays."""
    assert bench.verify(sets[2].id).status == "succeeded"
    proxy.on(fault, method="GET", key=f"{sets[2].id}/proof-")
    clock.advance(days=400)
    assert new_host.prune().status == "succeeded"
    assert new_host.stored_ids() == [sets[1].id, sets[2].id]


@FAULTS
def test_an_instance_document_that_is_not_returned_stops_no_backup(
    bench: Bench, sets: list[BackupSet], proxy: FaultProxy, clock: FixedClock, fault: Fault
) -> None:
    """What another installation, or this one, says of itself is read in vain: a set is made, and
    nothing newer is stored beside it that says less."""
    (own,) = [
        one.key
        for one in bench.store.list(naming.instances_prefix(PREFIX))
        if naming.parse_instance_document_key(PREFIX, one.key)
    ]
    other = naming.instance_document_key(PREFIX, "0" * 32, clock.now() - timedelta(days=1))
    put(bench.store, other, b"whatever it says")
    bench.facts.succeed("1" * 32)  # so that it has more to say
    before = {one.key for one in bench.store.list(naming.instances_prefix(PREFIX))}
    for key in (own, other):
        proxy.on(fault, method="GET", key=key)
    clock.advance(days=2)

    bench.made()

    assert {one.key for one in bench.store.list(naming.instances_prefix(PREFIX))} == before


@FAULTS
def test_a_dated_object_that_is_not_shown_hides_no_other(
    new_host: Bench, sets: list[BackupSet], proxy: FaultProxy, fault: Fault
) -> None:
    """An object of the old scripts that the store refuses to describe is left out for now."""
    old = [f"{PREFIX}{source}_2025-07-0{day}.db" for source in ("tokens",) for day in (4, 5)]
    for key in old:
        put(new_host.store, key)
    proxy.on(fault, key=old[0])
    new_host.service.catalogue.refresh()
    ids = [one.id for one in new_host.service.catalogue.sets()]
    assert ids == [*(one.id for one in reversed(sets)), "legacy-2025-07-05"]
    proxy.lift()
    new_host.service.catalogue.refresh()
    assert new_host.service.catalogue.get("legacy-2025-07-04")


@FAULTS
def test_an_object_that_is_refused_stops_no_other_drop(
    new_host: Bench, sets: list[BackupSet], proxy: FaultProxy, clock: FixedClock, fault: Fault
) -> None:
    """A prune that cannot look at one object drops all else and fails by name, also in status; the
    next one finishes it."""
    clock.advance(days=400)
    proxy.on(fault, key=sets[0].objects[0].key)
    run = new_host.prune()
    assert run.status == "failed"
    warnings = new_host.service.status().health.warnings
    (failed,) = [one for one in warnings if one.code == "prune_failed"]
    assert sets[0].objects[0].key in failed.message
    assert new_host.stored_ids() == [sets[2].id]
    assert set(new_host.data_keys()) == {
        sets[0].objects[0].key,
        *(stored.key for stored in sets[2].objects),
    }
    proxy.lift()
    assert new_host.prune().status == "succeeded"
    assert set(new_host.data_keys()) == {stored.key for stored in sets[2].objects}
    assert not [
        one for one in new_host.service.status().health.warnings if one.code == "prune_failed"
    ]


def test_a_manifest_that_was_refused_to_a_prune_keeps_its_set(
    new_host: Bench, sets: list[BackupSet], proxy: FaultProxy, clock: FixedClock
) -> None:
    """A set is known, and its manifest is refused since: it is not dropped, and the others are."""
    new_host.service.catalogue.refresh()
    clock.advance(days=400)
    proxy.on(refuse(403, "AccessDenied"), key=f"{sets[0].id}/manifest")
    assert new_host.prune().status == "failed"
    proxy.lift()
    assert new_host.stored_ids() == [sets[0].id, sets[2].id]
    assert {stored.key for stored in sets[0].objects} <= set(new_host.data_keys())


# --- what is returned, and is not what it should be --------------------------------------------


def test_an_invalid_manifest_that_is_replaced_by_a_right_one_is_read_again(
    bench: Bench, new_host: Bench, sets: list[BackupSet], proxy: FaultProxy
) -> None:
    """It is named and read once; when it is put right, its set is a restore point again."""
    key = naming.manifest_key(PREFIX, sets[1].id)
    right = bench.bytes_of(key)
    bench.replace_object(key, right[:-20])
    new_host.service.catalogue.refresh()
    assert sets[1].id in warned(new_host)
    proxy.forget_requests()
    new_host.service.catalogue.refresh()
    assert proxy.requests("GET", key) == []

    bench.replace_object(key, right)
    new_host.service.catalogue.refresh()

    assert [one.id for one in new_host.service.catalogue.sets()] == [
        one.id for one in reversed(sets)
    ]
    assert warned(new_host) == ""


def test_an_invalid_manifest_that_an_earlier_version_has_noted_is_read_again(
    bench: Bench, new_host: Bench, sets: list[BackupSet]
) -> None:
    """Records without a note of what is unread: the first refresh asks for what is invalid."""
    key = naming.manifest_key(PREFIX, sets[1].id)
    right = bench.bytes_of(key)
    bench.replace_object(key, right[:-20])
    new_host.service.catalogue.refresh()
    with new_host.known.transaction() as connection:
        connection.execute("DROP TABLE unread_documents")
        connection.execute(
            "CREATE TABLE unread_documents(key TEXT PRIMARY KEY, set_id TEXT, name TEXT,"
            " reason TEXT, version TEXT)"
        )
    new_host.service.catalogue.refresh()
    assert sets[1].id in warned(new_host)
    bench.replace_object(key, right)
    new_host.service.catalogue.refresh()
    assert new_host.service.catalogue.get(sets[1].id).complete


def test_an_invalid_verdict_that_is_replaced_by_a_right_one_is_read_again(
    bench: Bench, new_host: Bench, sets: list[BackupSet], clock: FixedClock
) -> None:
    """A verdict that was damaged in the store is named, and counts once it is put right."""
    verdict = Verdict(sets[2].id, clock.now(), "none", "differs")
    key = naming.verdict_key(PREFIX, sets[2].id, "proof", clock.now())
    put(bench.store, key, signed_proof(verdict)[:-9])
    new_host.service.catalogue.refresh()
    assert key in warned(new_host)
    bench.replace_object(key, signed_proof(verdict))
    new_host.service.catalogue.refresh()
    assert new_host.service.catalogue.get(sets[2].id).proof == "none"
    assert warned(new_host) == ""
