"""Restoring from files in hand: a download, a copy of a set or a chain, a folder of old scripts."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backups.config import SealConfig
from backups.decisions.restore_plan import RestorePlan
from backups.errors import (
    FileUnusable,
    ManifestInvalid,
    NoRestorePoint,
    RestoreBlocked,
    SetNotFound,
)
from backups.model import BackupSet, Run
from backups.operations.planning.given import GivenRestore
from backups.sets.seal import generate_key_pair, seal
from backups.sources.checking.inspection import sha256_of
from backups.view import restore_text
from tests.support.bench import PREFIX, Bench, open_bench
from tests.support.chains import all_rows, stored_chain
from tests.support.databases import add_rows
from tests.support.generations import SOURCES, generation_of

SECRET, PUBLIC = generate_key_pair()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A set with `genset`, and `genlive` in the live databases."""
    with open_bench(tmp_path, settings={}) as bench:
        bench.write("genset")
        bench.made()
        bench.write("genlive")
        yield bench


@pytest.fixture
def hand(tmp_path: Path) -> Path:
    """An empty folder for files in hand."""
    folder = tmp_path / "hand"
    folder.mkdir()
    return folder


def newest(bench: Bench) -> BackupSet:
    """The set that the bench has made."""
    found = bench.service.catalogue.latest()
    assert found is not None
    return found


def download(bench: Bench, folder: Path, *, below: str = "") -> None:
    """Fetch all objects below a prefix, each under its name there."""
    for key in bench.all_keys():
        path = folder / key.removeprefix(below)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bench.bytes_of(key))


def flatten(bench: Bench, folder: Path) -> None:
    """The manifest and the objects of the set side by side, as in restoring by hand."""
    found = newest(bench)
    (folder / "manifest.json").write_bytes(bench.bytes_of(bench.manifest_key(found.id)))
    for stored in found.objects:
        (folder / Path(stored.key).name).write_bytes(bench.bytes_of(stored.key))


def copy_of(bench: Bench, source: str) -> Path:
    """The local copy of a source of the set: a plain database with `genset`."""
    return bench.directory.copy_of(newest(bench).id, source)


def planned(
    given: GivenRestore, target: str, *, to: Path | None, accept_unsigned: bool
) -> RestorePlan:
    """The plan of a restore that was begun."""
    return given.plan(target, in_place=to is None, accept_unsigned=accept_unsigned, compares=False)


def plan_from(
    bench: Bench,
    path: Path,
    target: str = "latest",
    *,
    at: datetime | None = None,
    only: str | None = None,
    identity: Path | None = None,
    to: Path | None = None,
    accept_unsigned: bool = False,
) -> RestorePlan:
    """The plan alone."""
    with bench.service.given.open(path, at=at, only=only, identity_file=identity) as given:
        return planned(given, target, to=to, accept_unsigned=accept_unsigned)


def restore_from(
    bench: Bench,
    path: Path,
    target: str = "latest",
    *,
    at: datetime | None = None,
    only: str | None = None,
    identity: Path | None = None,
    to: Path | None = None,
    accept_unsigned: bool = False,
) -> Run:
    """Plan and restore from files in hand; the run, with its error in their terms."""
    with bench.service.given.open(path, at=at, only=only, identity_file=identity) as given:
        plan = planned(given, target, to=to, accept_unsigned=accept_unsigned)
        run = given.begin(plan, to=to).execute()
        if run.error is not None:
            raise AssertionError(given.explained(run.error).message)
        return run


def state_of(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Each file below a folder: its bytes, and when it was changed."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("arrangement", ["flat", "prefix", "bucket", "store"])
def test_a_copy_of_a_set_is_restored_from_any_arrangement(
    bench: Bench, hand: Path, arrangement: str
) -> None:
    """By its marked manifest, like any other; the files stay as they were, and undo works."""
    if arrangement == "flat":
        flatten(bench, hand)
    elif arrangement == "store":
        hand = Path(bench.store.location)
    else:
        download(bench, hand, below=PREFIX if arrangement == "prefix" else "")
    before = state_of(hand)
    plan = plan_from(bench, hand)
    assert plan.backup_set.mark == "valid"
    assert not plan.blockers
    assert not plan.warnings
    first = restore_text.plan(plan, to=None, ask=True).splitlines()[0]
    assert first.startswith(f"Restore point {newest(bench).id} from {hand} (set,")
    with bench.service.given.open(hand) as given:
        run = given.begin(plan, to=None).execute()
    assert run.error is None
    assert bench.generations() == dict.fromkeys(SOURCES, "genset")
    if arrangement != "store":  # the store has what the restore replaced
        assert state_of(hand) == before
    bench.undo()
    assert bench.generations() == dict.fromkeys(SOURCES, "genlive")


def test_a_set_in_hand_comes_from_there_and_no_copy_serves(bench: Bench, hand: Path) -> None:
    """A damaged object is refused by its name, although this host has a good copy of it."""
    flatten(bench, hand)
    damaged = hand / Path(newest(bench).objects[0].key).name
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    with pytest.raises(AssertionError, match=f"^{damaged} has .* bytes with SHA-256"):
        restore_from(bench, hand)
    assert bench.generations() == dict.fromkeys(SOURCES, "genlive")


def test_a_set_whose_object_is_not_in_hand_is_refused_by_its_key(bench: Bench, hand: Path) -> None:
    """Before anything begins; a source that is there can be restored alone."""
    flatten(bench, hand)
    missing = hand / Path(newest(bench).objects[0].key).name
    missing.unlink()
    with pytest.raises(FileUnusable, match=f"but not .*{missing.name}"):
        plan_from(bench, hand)
    restore_from(bench, hand, only="sessions")
    assert bench.generations() == {"tokens": "genlive", "sessions": "genset"}


def test_a_set_without_a_mark_in_hand_needs_to_be_accepted(bench: Bench, hand: Path) -> None:
    """As one in the store does; the line to type names the folder."""
    flatten(bench, hand)
    document = bench.manifest_of(newest(bench).id)
    del document["mac"]
    _write_manifest(hand, document)
    plan = plan_from(bench, hand)
    assert [one.code for one in plan.blockers] == ["unsigned"]
    line = f"restore {plan.backup_set.id} --from {hand} --in-place --yes --accept-unsigned"
    assert line in plan.blockers[0].hint
    with pytest.raises(RestoreBlocked, match="no mark"):
        restore_from(bench, hand)
    restore_from(bench, hand, accept_unsigned=True)
    assert bench.generations() == dict.fromkeys(SOURCES, "genset")


def test_a_set_that_was_changed_goes_into_a_folder_alone(
    bench: Bench, hand: Path, tmp_path: Path
) -> None:
    """A wrong mark is never accepted in place."""
    flatten(bench, hand)
    _write_manifest(hand, {**bench.manifest_of(newest(bench).id), "application": "another"})
    with pytest.raises(RestoreBlocked, match="its mark is not that of its content"):
        restore_from(bench, hand, accept_unsigned=True)
    restore_from(bench, hand, to=tmp_path / "to")
    assert generation_of(tmp_path / "to" / "tokens.db") == "genset"


def _write_manifest(hand: Path, document: dict[str, object]) -> None:
    (hand / "manifest.json").write_text(json.dumps(document))


def test_a_chain_in_a_folder_is_restored_to_its_newest_point(tmp_path: Path, hand: Path) -> None:
    """The head, the increments and the full side by side; `--at` and an id name another point."""
    with open_bench(tmp_path) as bench:
        made = bench.made()
        with stored_chain(bench, made) as chain:
            for _ in range(3):
                add_rows(bench.tokens, 5)
                chain.step()
            flatten(bench, hand)
            beginning = f"{PREFIX}chains/{chain.id}/"
            for key in bench.all_keys():
                if key.startswith(beginning):
                    path = hand / key.removeprefix(beginning)
                    path.parent.mkdir(exist_ok=True)
                    path.write_bytes(bench.bytes_of(key))
            rows = [chain.rows(number)["tokens"] for number in range(4)]
            second = chain.point(2)
        plan = plan_from(bench, hand)
        assert plan.backup_set.point is not None
        assert plan.backup_set.point.number == 3
        assert f"restore {plan.backup_set.id} --from {hand}" in plan.command("--in-place --yes")
        restore_from(bench, hand, second, to=tmp_path / "second")
        assert all_rows(tmp_path / "second" / "tokens.db") == rows[2]
        with pytest.raises(SetNotFound) as refused:
            plan_from(bench, hand, f"{made.id}.9")
        assert refused.value.hint.endswith(f"restore {made.id}.3 --from {hand}")
        run = restore_from(bench, hand)
        assert run.set_id == plan.backup_set.id
        assert all_rows(bench.tokens) == rows[3]


def plain(bench: Bench, hand: Path) -> Path:
    """An object of the old scripts."""
    return Path(shutil.copyfile(copy_of(bench, "tokens"), hand / "tokens_2025-07-04.db"))


def without_a_name(bench: Bench, hand: Path) -> Path:
    """A database whose name says nothing."""
    return Path(shutil.copyfile(copy_of(bench, "tokens"), hand / "download (1)"))


def zstd(bench: Bench, hand: Path) -> Path:
    """A compressed object, under a name that does not say so."""
    copy = hand / "copy.db"
    shutil.copyfile(copy_of(bench, "tokens"), copy)
    sealed = seal(copy, sha256_of(copy), SealConfig("zstd"), lambda _: None)
    copy.unlink()
    return sealed.path.rename(hand / "tokens.db")


def age(bench: Bench, hand: Path) -> Path:
    """An encrypted object of another host."""
    copy = hand / "copy.db"
    shutil.copyfile(copy_of(bench, "tokens"), copy)
    sealed = seal(copy, sha256_of(copy), SealConfig("zstd", (PUBLIC,)), lambda _: None)
    copy.unlink()
    return sealed.path.rename(hand / "tokens_2025-07-04T010203Z.db.zst.age")


@pytest.mark.parametrize("make", [plain, without_a_name, zstd, age])
def test_a_file_by_itself_is_restored(
    bench: Bench, hand: Path, tmp_path: Path, make: Callable[[Bench, Path], Path]
) -> None:
    """Which source it is of its name says, or its schema; only that source is replaced."""
    identity = tmp_path / "identity.txt"
    identity.write_text(SECRET)
    identity.chmod(0o600)
    path = make(bench, hand)
    before = state_of(hand)
    restore_from(bench, path, identity=identity)
    assert bench.generations() == {"tokens": "genset", "sessions": "genlive"}
    assert state_of(hand) == before
    bench.undo()
    assert bench.generations() == dict.fromkeys(SOURCES, "genlive")


def test_rows_that_are_only_in_the_wal_are_restored(bench: Bench, hand: Path) -> None:
    """A live copy without them would be an older one."""
    path = without_a_name(bench, hand)
    with closing(sqlite3.connect(path)) as writer:
        writer.execute("PRAGMA journal_mode=WAL")
        writer.execute("PRAGMA wal_autocheckpoint=0")
        writer.execute("DELETE FROM tokens WHERE rowid > 1")
        writer.commit()
        for suffix in ("", "-wal"):
            shutil.copyfile(f"{path}{suffix}", hand / f"tokens.db{suffix}")
    before = state_of(hand)
    restore_from(bench, hand / "tokens.db")
    assert state_of(hand) == before
    with closing(sqlite3.connect(bench.tokens)) as live:
        assert live.execute("SELECT count(*) FROM tokens").fetchone() == (1,)


def test_a_sealed_file_without_a_name_needs_only(bench: Bench, hand: Path) -> None:
    """Nothing says its source but a person."""
    path = zstd(bench, hand).rename(hand / "download.zst")
    with pytest.raises(FileUnusable, match=f"of {path} says which source") as refused:
        plan_from(bench, path)
    assert "--only SOURCE. There are: tokens, sessions" in refused.value.hint
    plan = plan_from(bench, path, only="tokens")
    assert f"restore --from {path} --only tokens --to DIR" in plan.warnings[0].hint
    assert plan.command("--to DIR").endswith(f"restore --from {path} --only tokens --to DIR")
    restore_from(bench, path, only="tokens")
    assert bench.generations() == {"tokens": "genset", "sessions": "genlive"}


def test_a_folder_of_the_old_scripts_gives_the_newest_of_each(bench: Bench, hand: Path) -> None:
    """Or the newest up to `--at`; the commands name the folder and the time again."""
    for source, day in (("tokens", 4), ("tokens", 3), ("sessions", 3)):
        shutil.copyfile(copy_of(bench, source), hand / f"{source}_2025-07-{day:02}.db")
    plan = plan_from(bench, hand)
    assert [Path(item.file).name for item in plan.items] == [
        "tokens_2025-07-04.db",
        "sessions_2025-07-03.db",
    ]
    assert plan.backup_set.created_at == datetime(2025, 7, 4, 23, 59, 59, tzinfo=UTC)
    assert plan.command("--to DIR") == f"./bot backups restore --from {hand} --to DIR"
    at = datetime(2025, 7, 3, 23, 59, 59, tzinfo=UTC)
    plan = plan_from(bench, hand, at=at)
    assert Path(plan.items[0].file).name == "tokens_2025-07-03.db"
    assert "--at 2025-07-03T23:59:59Z" in plan.command("--to DIR")
    with pytest.raises(NoRestorePoint) as refused:
        plan_from(bench, hand, at=datetime(2025, 7, 1, tzinfo=UTC))
    assert "The oldest in it is of 2025-07-03" in refused.value.hint
    restore_from(bench, hand)
    assert bench.generations() == dict.fromkeys(SOURCES, "genset")


def test_a_local_copy_is_as_old_as_its_folder_says(bench: Bench) -> None:
    """Those below `BACKUP_DIR` have no manifest."""
    folder = copy_of(bench, "tokens").parent
    plan = plan_from(bench, folder)
    assert plan.backup_set.created_at == newest(bench).created_at.replace(microsecond=0)
    restore_from(bench, folder)
    assert bench.generations() == dict.fromkeys(SOURCES, "genset")


def test_what_is_newer_in_the_store_is_set_aside(bench: Bench, hand: Path) -> None:
    """Else `latest` would bring back what the person has just replaced; an undo takes it back."""
    newer = newest(bench)
    restore_from(bench, plain(bench, hand))
    assert bench.service.catalogue.get(newer.id).set_aside is not None
    bench.undo()
    assert bench.service.catalogue.get(newer.id).set_aside is None


def test_a_database_of_another_schema_is_refused_in_place(bench: Bench, hand: Path) -> None:
    """Exactly as one from the store; the hint is a line for the same file."""
    path = plain(bench, hand)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TRIGGER spy AFTER INSERT ON tokens BEGIN SELECT 1; END")
    with bench.service.given.open(path) as given:
        plan = given.plan("latest", in_place=True, accept_unsigned=False, compares=False)
        run = given.begin(plan, to=None).execute()
        assert run.error is not None
        assert run.error.code == "schema_differs"
        told = given.explained(run.error)
    assert str(path) in told.message
    assert f"./bot backups restore --from {path} --only tokens --to DIR" in told.hint
    assert bench.generations() == dict.fromkeys(SOURCES, "genlive")


def fifo(path: Path) -> None:
    """A pipe that nobody writes to."""
    os.mkfifo(path)


def unreadable_folder(path: Path) -> None:
    """A set whose manifest is no JSON."""
    path.mkdir()
    (path / "manifest.json").write_text("{")


def two_of_one_time(path: Path) -> None:
    """Two files of a source, and nothing that tells which is newer."""
    path.mkdir()
    for suffix in ("", ".zst"):
        (path / f"tokens_2025-07-04T000000Z.db{suffix}").write_bytes(b"SQLite format 3\0")


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: None, "is not there"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_bytes(b"%PDF-1.4 of somebody"), "is neither an SQLite database"),
        (lambda path: path.write_text('{"format": 1}'), "is a part of a set or a chain"),
        (lambda path: path.mkdir(), "has neither a manifest nor a database"),
        (fifo, "is neither a regular file nor a folder"),
        (lambda path: path.symlink_to("/dev/zero"), "is neither a regular file nor a folder"),
        (lambda path: path.symlink_to(path), "cannot be read: Too many levels"),
        (unreadable_folder, "manifest.json is no document of a backup"),
        (two_of_one_time, "are both of tokens, and of the same time"),
    ],
    ids=[
        *("missing", "empty", "pdf", "json", "nothing", "fifo", "device", "loop"),
        *("hostile", "two"),
    ],
)
def test_what_is_no_backup_is_refused_by_name(
    bench: Bench, hand: Path, make: Callable[[Path], object], why: str
) -> None:
    """At once, with what to do; a pipe is not waited for."""
    path = hand / "given"
    make(path)
    with pytest.raises(FileUnusable, match=why) as refused:
        plan_from(bench, path)
    assert str(path) in refused.value.message
    assert refused.value.hint


@pytest.mark.parametrize("how", ["itself", "symlink", "hard link", "folder", "folder with a link"])
def test_a_live_database_is_never_restored_from(bench: Bench, hand: Path, how: str) -> None:
    """Whatever its name is: nothing but SQLite may open it in this process."""
    path = hand / "copy.db"
    if how == "itself":
        path = bench.tokens
    elif how == "folder":
        path = bench.tokens.parent
    elif how == "hard link":
        path.hardlink_to(bench.tokens)
    else:
        path.symlink_to(bench.tokens)
    with pytest.raises(FileUnusable, match="is the live database"):
        plan_from(bench, hand if how == "folder with a link" else path)


def test_a_cut_file_is_refused_by_its_name(bench: Bench, hand: Path) -> None:
    """A download that broke off; nothing live is touched."""
    path = zstd(bench, hand)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(AssertionError, match=f"^{path} is damaged: the end of the compressed"):
        restore_from(bench, path)
    assert bench.generations() == dict.fromkeys(SOURCES, "genlive")


def test_a_file_larger_than_the_disk_is_refused_before_it_is_fetched(
    bench: Bench, hand: Path
) -> None:
    """By the room that it needs."""
    path = hand / "tokens.db"
    path.write_bytes(b"SQLite format 3\0")
    os.truncate(path, 2**42)
    with pytest.raises(AssertionError, match=f"{path}.*needs"):
        restore_from(bench, path)
    assert bench.generations() == dict.fromkeys(SOURCES, "genlive")


def test_a_hostile_manifest_is_refused_with_its_fault(bench: Bench, hand: Path) -> None:
    """The only set in a folder is not passed over in silence."""
    flatten(bench, hand)
    document = bench.manifest_of(newest(bench).id)
    document["objects"][0]["key"] = "../../data/tokens.db"
    _write_manifest(hand, document)
    with pytest.raises(ManifestInvalid, match="key"):
        plan_from(bench, hand)


def test_an_empty_host_carries_on_the_line_of_the_set_in_hand(
    bench: Bench, hand: Path, tmp_path: Path
) -> None:
    """As after a restore from the store: its sets count as those of the new host."""
    flatten(bench, hand)
    made = newest(bench)
    bench.tokens.unlink()
    bench.sessions.unlink()
    with open_bench(tmp_path, settings={}, directory="other") as other:
        restore_from(other, hand)
        assert other.generations() == dict.fromkeys(SOURCES, "genset")
        assert made.instance in other.service.own_sets.ours()


def test_an_id_that_is_not_in_hand_is_refused_with_those_that_are(bench: Bench, hand: Path) -> None:
    """The store of the settings is not meant, and not named."""
    flatten(bench, hand)
    with pytest.raises(SetNotFound, match=f"{hand} has no restore point '20200101T000000Z'") as no:
        plan_from(bench, hand, "20200101T000000Z")
    assert no.value.hint == f"The newest that it has: {newest(bench).id}."
