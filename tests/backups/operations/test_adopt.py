"""Who this installation is, in the store, and the sets of earlier ones that it takes over."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from backups.errors import InstanceUnknown
from backups.format import naming
from backups.format.instance import InstanceDocument, dump_instance, load_instance
from backups.host import machine
from backups.model import Source
from tests.backups.conftest import LogLines
from tests.support.bench import PREFIX, Bench, open_bench
from tests.support.clock import FixedClock
from tests.support.installation import installation_in
from tests.support.store_wrappers import WatchedStore


@pytest.fixture(autouse=True)
def machine_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file with this machine's id, which a test may change."""
    path = tmp_path / "machine-id"
    path.write_text("0123456789abcdef" * 2 + "\n")
    monkeypatch.setattr(machine, "MACHINE_ID", path)
    return path


@pytest.fixture
def lost(tmp_path: Path, store: WatchedStore, clock: FixedClock) -> str:
    """The id of an installation with two sets, of which only the store and live data are left."""
    with open_bench(tmp_path, store, clock=clock) as bench:
        bench.made()
        clock.advance(days=1)
        instance = bench.made().instance
    shutil.rmtree(bench.directory.path)
    return instance


@pytest.fixture
def after(tmp_path: Path, store: WatchedStore, clock: FixedClock, lost: str) -> Iterator[Bench]:
    """The same host after it lost `BACKUP_DIR`: its live data and its path are the same."""
    data = tmp_path / "data"
    sources = [
        Source("tokens", data / "tokens.db"),
        Source("sessions", data / "sessions.db", volatile=True),
    ]
    with open_bench(tmp_path, store, clock=clock, sources=sources) as bench:
        assert bench.directory.instance() != lost
        yield bench


def keys(bench: Bench) -> list[str]:
    """The keys of the documents, oldest first for each installation."""
    found = (one.key for one in bench.store.list(naming.instances_prefix(PREFIX)))
    return [key for key in found if naming.parse_instance_document_key(PREFIX, key)]


def documents(bench: Bench, instance: str | None = None) -> list[InstanceDocument]:
    """The documents of an installation, by default of the bench's own."""
    instance = instance or bench.directory.instance()
    found = []
    for key in keys(bench):
        parsed = naming.parse_instance_document_key(PREFIX, key)
        if parsed and parsed[0] == instance:
            found.append(load_instance(bench.bytes_of(key), instance=instance, at=parsed[1]))
    return found


def put(bench: Bench, document: InstanceDocument, body: bytes | None = None) -> None:
    """Store a document as somebody else could."""
    key = naming.instance_document_key(PREFIX, document.instance, document.at)
    bench.store.put(key, io.BytesIO(dump_instance(document) if body is None else body), {})


def warned(bench: Bench) -> list[str]:
    found = bench.service.status().health.warnings
    return [one.message for one in found if one.code == "earlier_installation"]


# --- the document -----------------------------------------------------------------------


def test_the_first_run_says_who_this_is_and_later_ones_only_what_changed(
    bench: Bench, clock: FixedClock, machine_id: Path
) -> None:
    """One document, and one more for each change; none is ever overwritten."""
    for _ in range(3):
        bench.made()
        clock.advance(hours=13)
    (document,) = documents(bench)
    assert document.host == machine.this_host()
    assert document.machine == machine.this_machine() is not None
    assert document.directory == str(bench.directory.path)
    assert document.succeeds == ()

    machine_id.write_text("f" * 32)
    bench.made()
    bench.made()

    assert [one.machine for one in documents(bench)] == [document.machine, machine.this_machine()]


def test_the_probe_of_older_versions_stays_as_it_is(bench: Bench) -> None:
    """`instances/<id>.json` has its one member, and is put as before."""
    instance = bench.made().instance
    assert bench.json_of(f"{PREFIX}instances/{instance}.json") == {"instance": instance}


@pytest.mark.parametrize("content", ["", "\n", "uninitialized\n", None])
def test_a_machine_without_an_id_says_so(
    bench: Bench, machine_id: Path, content: str | None
) -> None:
    """What has none is null in the document, never the hash of nothing."""
    if content is None:
        machine_id.unlink()
    else:
        machine_id.write_text(content)
    bench.made()

    assert documents(bench)[0].machine is None


def test_the_sweep_leaves_the_documents(bench: Bench, clock: FixedClock) -> None:
    """They belong to no set, and are no orphans, however old they are."""
    bench.made()
    before = keys(bench)
    clock.advance(days=400)
    bench.made()

    assert bench.service.prune.sweep(bench.service.own_sets.ours()) == []
    assert bench.prune().status == "succeeded"

    assert set(before) <= set(keys(bench))
    assert not any(bench.service.prune._could_be_ours(key) for key in keys(bench))


def test_a_document_in_the_future_delays_no_newer_one(bench: Bench, clock: FixedClock) -> None:
    """One a few minutes ahead is followed by a newer one; one beyond that does not count."""
    bench.made()
    own = documents(bench)[0]
    ahead = clock.now() + timedelta(minutes=4)
    put(bench, replace(own, host="ahead", at=ahead))
    put(bench, replace(own, host="planted", at=clock.now() + timedelta(days=3650)))
    bench.facts.set_instances("")

    bench.made()

    ours = [one.at for one in documents(bench) if one.host == own.host]
    assert ours == [own.at, ahead + timedelta(seconds=1)]


# --- succession -------------------------------------------------------------------------


def test_succession_is_learnt_from_the_store_when_the_records_are_lost(
    bench: Bench, clock: FixedClock
) -> None:
    """What this installation succeeds is in its document, and survives its own `runs.db`."""
    bench.facts.succeed("e" * 32)
    bench.made()
    assert documents(bench)[-1].succeeds == ("e" * 32,)
    for file in bench.directory.path.glob("runs.db*"):
        file.unlink()
    assert bench.facts.predecessors() == {}
    clock.advance(minutes=1)

    bench.made()

    assert set(bench.facts.predecessors()) == {"e" * 32}
    assert len(documents(bench)) == 1


def test_a_lost_folder_is_named_at_once_and_adopted_when_the_other_is_quiet(
    after: Bench, lost: str, clock: FixedClock, log_lines: LogLines
) -> None:
    """Same machine, same path: a person may adopt it now, and two due instants later it is."""
    after.made()

    (message,) = warned(after)
    assert f"this host's earlier installation {lost} (host {machine.this_host()}" in message
    assert "has 2 sets" in message
    assert lost not in after.service.own_sets.ours()

    clock.advance(days=2)
    after.made()

    assert lost in after.service.own_sets.ours()
    assert warned(after) == []
    assert documents(after)[-1].succeeds == (lost,)
    assert lost in log_lines.text()
    assert after.problems() == []


@pytest.mark.parametrize("differs", ["machine", "path", "nothing is known"])
def test_another_place_is_never_adopted_by_itself(
    after: Bench, lost: str, clock: FixedClock, machine_id: Path, differs: str
) -> None:
    """A host that replaces another one names it, and a person decides."""
    if differs == "machine":
        machine_id.write_text("f" * 32)
    elif differs == "path":
        found = documents(after, lost)[-1]
        put(after, replace(found, directory="/elsewhere", at=found.at + timedelta(seconds=1)))
    else:
        for key in keys(after):
            after.store.delete(key)
    clock.advance(days=10)
    after.made()

    assert lost not in after.service.own_sets.ours()
    (message,) = warned(after)
    assert message.startswith("an earlier installation")


def test_a_planted_document_of_a_working_installation_adopts_nothing(
    after: Bench, lost: str, clock: FixedClock
) -> None:
    """Sets that go on beside ours are another line, whatever a document says of their place."""
    clock.advance(days=5)
    after.made()
    other = "f" * 32
    put(after, replace(documents(after)[-1], instance=other, at=clock.now()))
    clock.advance(days=1)
    after.made()

    assert after.service.own_sets.ours() == {after.directory.instance(), lost}


@pytest.mark.parametrize("body", [b"", b"{", b"x" * 70_000, b'{"format": 1}', b"[" * 50_000])
def test_what_a_stranger_wrote_stops_no_run(
    after: Bench, lost: str, clock: FixedClock, body: bytes
) -> None:
    """A document that cannot be read counts as none; the run succeeds."""
    found = documents(after, lost)[-1]
    put(after, replace(found, at=found.at + timedelta(seconds=1)), body)
    clock.advance(days=10)

    after.made()

    too_large = len(body) > 64 * 1024  # known by its size, and passed over
    assert (lost in after.service.own_sets.ours()) is too_large


# --- a person adopts --------------------------------------------------------------------


def test_adopting_counts_the_sets_here_and_for_the_next_host(
    after: Bench, lost: str, clock: FixedClock
) -> None:
    """`latest` and retention include them at once, and the store says so."""
    found = after.service.adoption.adopt(lost)

    assert (found.instance, found.sets, found.newest_at) == (lost, 2, clock.now())
    assert after.service.own_sets.ours() == {lost, after.directory.instance()}
    assert documents(after)[-1].succeeds == (lost,)
    assert after.problems() == []
    assert warned(after) == []
    plan = after.service.own_sets.plan_prune()
    assert len([*plan.keep, *plan.drop]) == 2

    clock.advance(seconds=1)
    assert after.service.adoption.adopt(lost) == found
    assert len(documents(after)) == 1


def test_an_installation_that_is_not_there_cannot_be_adopted(after: Bench) -> None:
    """The error says where its id is to be found, and nothing is written."""
    with pytest.raises(InstanceUnknown, match="no set of an installation 'nobody'"):
        after.service.adoption.adopt("nobody")

    assert documents(after) == []


def test_it_is_read_once_a_day(after: Bench, clock: FixedClock, store: WatchedStore) -> None:
    """A run lists the installations but once a day, also when the clock jumps."""

    def looks() -> int:
        return sum(1 for call in store.calls if "instances/" in str(call) and "list" in str(call))

    counts = []
    for step in ({"hours": 1}, {"hours": 1}, {"hours": 24}, {"hours": 1}, {"days": -3}):
        clock.advance(**step)
        before = looks()
        after.made()
        counts.append(looks() - before)

    assert counts == [1, 0, 1, 0, 1]


def test_the_command_and_its_document(tmp_path: Path) -> None:
    """`adopt` prints what it adopted; a wrong id exits with 1 and its code."""
    installation = installation_in(tmp_path).make_databases()
    made = installation.json("run")["set"]
    shutil.rmtree(tmp_path / "data" / "backups")

    adopted = installation.json("adopt", made["instance"])

    assert adopted["instance"] == made["instance"]
    assert adopted["sets"] == 1
    assert adopted["newest_at"] == made["created_at"]
    assert adopted["host"] == machine.this_host()
    assert installation.json("status")["newest_restore_point"]["id"] == made["id"]
    assert "1 set of installation" in installation.cli("adopt", made["instance"]).stdout
    refused = installation.cli("adopt", "nobody", "--json")
    assert refused.returncode == 1
    assert json.loads(refused.stdout)["code"] == "instance_unknown"
