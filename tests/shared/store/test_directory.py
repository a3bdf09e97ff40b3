"""`DirectoryStore` as files: modes, leftovers, a full disk, a folder that others use too."""

from __future__ import annotations

import errno
import io
import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from filelock import FileLock

from shared.errors import (
    ObjectExists,
    ObjectMissing,
    StoreAccessDenied,
    StoreError,
    StoreUnreachable,
)
from shared.store import directory
from shared.store.directory import DirectoryStore
from shared.store.object_store import CHUNK_BYTES

REPOSITORY = Path(__file__).parents[3]
METADATA = {"sha256": "x"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data" / "spaces"


@pytest.fixture
def store(root: Path) -> DirectoryStore:
    return DirectoryStore(root)


def put(store: DirectoryStore, key: str, body: bytes = b"content") -> None:
    store.put(key, io.BytesIO(body), METADATA)


def keys(store: DirectoryStore) -> list[str]:
    return [found.key for found in store.list("")]


def run_child(program: str, *arguments: object, unshared: bool = False) -> str:
    """Run a program with the store in a process of its own; what it printed, or its exit code.

    Unshared, it is root in name spaces of its own and can mount; nothing outside sees it.
    """
    command = ["unshare", "--map-root-user", "--mount"] if unshared else []
    command += [sys.executable, "-c", f"{CHILD}{program}", *map(str, arguments)]
    done = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False
    )
    assert not done.stderr, done.stderr
    return done.stdout.strip() or str(done.returncode)


CHILD = """
import io, os, subprocess, sys
from pathlib import Path
from shared.store import directory
from shared.store.directory import DirectoryStore
from shared.errors import StoreError
root = Path(sys.argv[1])
store = DirectoryStore(root)
def mount(options):
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", root], check=True)
def put(key, size, more={}):
    try:
        store.put(key, io.BytesIO(b"x" * size), {"sha256": "child", **more})
    except StoreError as error:
        return error.code
    return "stored"
"""


# --- files ------------------------------------------------------------------------------


def test_everything_is_private(root: Path, store: DirectoryStore) -> None:
    """Whatever the umask, files are 0600, and directories 0700 from the first new one down."""
    umask = os.umask(0)
    try:
        put(store, "backups/deep/er/a.db")
        store.check("backups/check", b"probe")
    finally:
        os.umask(umask)

    found = [root.parent, root, *root.rglob("*")]
    assert {stat.S_IMODE(path.stat().st_mode) for path in found if path.is_dir()} == {0o700}
    assert {stat.S_IMODE(path.stat().st_mode) for path in found if path.is_file()} == {0o600}
    assert root / "backups" / "deep" / "er" / "a.db" in found


def test_an_object_is_a_plain_file(root: Path, store: DirectoryStore, tmp_path: Path) -> None:
    """A stored database can be opened where it lies, with nothing but SQLite."""
    source = tmp_path / "source.db"
    with closing(sqlite3.connect(source)) as connection:
        connection.execute("CREATE TABLE rows AS SELECT 42 AS answer")
        connection.commit()

    with source.open("rb") as body:
        store.put("backups/tokens_2026-11-22.db", body, METADATA)

    stored = root / "backups" / "tokens_2026-11-22.db"
    assert stored.read_bytes() == source.read_bytes()
    with closing(sqlite3.connect(stored)) as connection:
        assert connection.execute("SELECT answer FROM rows").fetchone() == (42,)


def test_a_file_that_was_put_there_by_hand_is_an_object(root: Path, store: DirectoryStore) -> None:
    """A backup copied into the folder is listed and read, and is not overwritten."""
    (root / "backups").mkdir(parents=True)
    (root / "backups" / "tokens_2025-01-01.db").write_bytes(b"by hand")

    assert keys(store) == ["backups/tokens_2025-01-01.db"]
    assert dict(store.head("backups/tokens_2025-01-01.db").metadata) == {}
    with pytest.raises(ObjectExists):
        put(store, "backups/tokens_2025-01-01.db")
    assert (root / "backups" / "tokens_2025-01-01.db").read_bytes() == b"by hand"


@pytest.mark.parametrize("damaged", [b"", b"{", b"[1]", b"\xff\xfe", b"null"])
def test_damaged_metadata_is_none(root: Path, store: DirectoryStore, damaged: bytes) -> None:
    """A metadata file that cannot be read costs the metadata, and not the object."""
    put(store, "backups/a.db")
    [described] = (root / ".metadata").rglob("*.json")
    described.write_bytes(damaged)

    assert dict(store.head("backups/a.db").metadata) == {}
    assert keys(store) == ["backups/a.db"]


def test_looking_creates_nothing(root: Path, store: DirectoryStore) -> None:
    """A store that was only looked at leaves no folder behind."""
    assert keys(store) == []
    with pytest.raises(ObjectMissing):
        store.head("a.db")
    with pytest.raises(ObjectMissing):
        store.get("a.db", io.BytesIO())
    store.delete("a.db")

    assert not root.parent.exists()


@pytest.mark.parametrize("key", [".lock", ".metadata/a.db.json", ".staging/a", ".a"])
def test_the_names_that_the_store_uses_itself_are_refused(
    store: DirectoryStore, root: Path, key: str
) -> None:
    """No key reaches the store's own files, to read or to remove them."""
    put(store, "a.db")
    before = sorted(root.rglob("*"))

    for method in (store.head, store.delete, lambda key: put(store, key)):
        with pytest.raises(StoreError, match="hidden names are reserved"):
            method(key)

    assert sorted(root.rglob("*")) == before


def test_a_delete_leaves_no_metadata(root: Path, store: DirectoryStore) -> None:
    """Object and metadata go together."""
    put(store, "backups/a.db")

    store.delete("backups/a.db")

    assert [path.name for path in root.rglob("*") if path.is_file()] == [".lock"]


def test_an_object_removed_during_a_listing_is_left_out(store: DirectoryStore) -> None:
    """A listing goes on past an object that another process deletes meanwhile."""
    for name in ("a", "b", "c"):
        put(store, name)

    listing = iter(store.list(""))
    first = next(listing)
    store.delete("b")

    assert [first.key, *(found.key for found in listing)] == ["a", "c"]


def test_where_a_folder_stands_there_can_be_no_object(store: DirectoryStore) -> None:
    """A key that begins others, or goes on below one, is refused by name, and harms neither."""
    put(store, "a/b")

    with pytest.raises(ObjectExists):
        put(store, "a")
    with pytest.raises(StoreError):
        put(store, "a/b/c")

    assert keys(store) == ["a/b"]


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    """A folder setting that names a file is a `StoreError`, and not an absent object."""
    (tmp_path / "file").touch()

    with pytest.raises(StoreError) as caught:
        put(DirectoryStore(tmp_path / "file"), "a.db")

    assert type(caught.value) is StoreError
    assert "BACKUP_LOCAL_STORE" in caught.value.hint


def test_a_file_in_place_of_the_staging_folder_is_named(root: Path, store: DirectoryStore) -> None:
    """What stands in the way of the store's own folders is a `StoreError` too."""
    root.mkdir(parents=True)
    (root / ".staging").touch()

    with pytest.raises(StoreError):
        put(store, "a.db")


# --- what a crash leaves ----------------------------------------------------------------


def test_a_put_that_was_killed_half_way_is_invisible(root: Path, store: DirectoryStore) -> None:
    """Killed while the body is read: no object, and the next put of the key is as any other."""
    program = f"""
class Dying(io.BytesIO):
    def read(self, size=-1):
        if self.tell() >= {CHUNK_BYTES}:
            os.kill(os.getpid(), 9)
        return super().read(size)
store.put("backups/a.db", Dying(b"x" * {3 * CHUNK_BYTES}), {{"sha256": "child"}})
"""
    assert run_child(program, root) == "-9"
    assert any((root / ".staging").iterdir())

    assert keys(store) == []
    with pytest.raises(ObjectMissing):
        store.head("backups/a.db")
    put(store, "backups/a.db")
    assert dict(store.head("backups/a.db").metadata) == METADATA


def test_a_put_that_was_killed_before_its_last_step_is_invisible(
    root: Path, store: DirectoryStore
) -> None:
    """Killed between metadata and object: no object, no lock held, and no metadata inherited."""
    program = """
directory.os.link = lambda *_: os.kill(os.getpid(), 9)
put("backups/a.db", 100, {"more": "from the dead"})
"""
    assert run_child(program, root) == "-9"
    assert any((root / ".metadata").rglob("*.json"))

    assert keys(store) == []
    with pytest.raises(ObjectMissing):
        store.head("backups/a.db")
    put(store, "backups/a.db")
    assert dict(store.head("backups/a.db").metadata) == METADATA
    store.delete("backups/a.db")
    assert keys(store) == []


@pytest.mark.parametrize(
    ("step", "stored"),
    [("os.fsync", b"before"), ("Path.replace", b"before"), ("sync_directory", b"after")],
)
def test_a_document_whose_replacing_was_killed_is_whole(
    root: Path, store: DirectoryStore, step: str, stored: bytes
) -> None:
    """At each step it is all of the old one or all of the new one, and can be replaced again."""
    store.replace("users/1/a.json", b"before")
    program = f"""
directory.{step} = lambda *_: os.kill(os.getpid(), 9)
store.replace("users/1/a.json", b"after")
"""

    assert run_child(program, root) == "-9"

    sink = io.BytesIO()
    store.get("users/1/a.json", sink)
    assert sink.getvalue() == stored
    assert keys(store) == ["users/1/a.json"]
    store.replace("users/1/a.json", b"again")
    assert (root / "users/1/a.json").read_bytes() == b"again"


def test_a_document_is_private(root: Path, store: DirectoryStore) -> None:
    """0600 in folders that are 0700, from its first byte on; nothing is left beside it."""
    store.replace("users/1/a.json", b"content")

    assert stat.S_IMODE((root / "users/1/a.json").stat().st_mode) == 0o600
    assert stat.S_IMODE((root / "users/1").stat().st_mode) == 0o700
    assert list((root / ".staging").iterdir()) == []


def test_a_put_that_failed_leaves_nothing(root: Path, store: DirectoryStore) -> None:
    """A body that breaks, and a key that is taken, leave no staged file behind."""
    put(store, "a.db")

    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell():
                raise ValueError("broken")
            return super().read(size)

    with pytest.raises(ValueError, match="broken"):
        store.put("b.db", Broken(b"x" * 3 * CHUNK_BYTES), METADATA)
    with pytest.raises(ObjectExists):
        put(store, "a.db", b"other")

    assert list((root / ".staging").iterdir()) == []


# --- several processes ------------------------------------------------------------------


def test_a_lock_that_is_not_let_go_is_named(
    root: Path, store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process that is stuck in a put is told of, instead of being waited for for ever."""
    put(store, "a.db")
    monkeypatch.setattr(directory, "_LOCK_TIMEOUT_SECONDS", 0.05)

    with FileLock(root / ".lock"):
        with pytest.raises(StoreUnreachable, match=r"\.lock"):
            put(store, "b.db")
        with pytest.raises(StoreUnreachable, match=r"\.lock"):
            store.delete("a.db")

    put(store, "b.db")
    assert keys(store) == ["a.db", "b.db"]


def test_of_racing_processes_exactly_one_wins(root: Path, store: DirectoryStore) -> None:
    """Six processes put six bodies under one key: one succeeds, and its bytes are stored."""
    program = "print(put('a.db', 1000 + int(sys.argv[2]), {'size': sys.argv[2]}))"
    children = [
        subprocess.Popen(
            [sys.executable, "-c", f"{CHILD}{program}", str(root), str(number)],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(6)
    ]
    said = [child.communicate(timeout=60)[0].strip() for child in children]

    assert sorted(said) == [*["object_exists"] * 5, "stored"]
    winner = said.index("stored")
    found = store.head("a.db")
    assert (found.size, found.metadata["size"]) == (1000 + winner, str(winner))


# --- disks ------------------------------------------------------------------------------


def test_a_full_disk_is_the_stores_failure(tmp_path: Path) -> None:
    """No room: `StoreFailing`, nothing listed, and the room is free again for a smaller body."""
    program = """
mount("size=1m")
print(put("big", 3_000_000), [found.key for found in store.list("")], put("small", 500_000))
"""
    assert run_child(program, tmp_path, unshared=True) == "store_failing [] stored"


def test_a_disk_that_is_full_to_the_last_byte_is_the_stores_failure(tmp_path: Path) -> None:
    """Also when the room ends behind the staged body, in a directory or the metadata."""
    program = """
mount("size=1m,nr_inodes=6")
codes = {put(f"a/b/c/{number}", 1) for number in range(5)}
print(sorted(codes), [found.key for found in store.list("")])
"""
    said = run_child(program, tmp_path, unshared=True)

    assert said == "['store_failing'] []"


def test_a_disk_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A read-only file system is `StoreAccessDenied`, for a put and for a check."""
    program = """
mount("ro")
try:
    store.check("check", b"probe")
except StoreError as error:
    print(put("a", 1), error.code)
"""
    assert run_child(program, tmp_path, unshared=True) == "store_access_denied store_access_denied"


def test_a_folder_that_is_none_is_no_empty_store(tmp_path: Path) -> None:
    """A file, or a link that leads nowhere, in place of the folder is an error of its own."""
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to(tmp_path / "not-mounted")

    with pytest.raises(StoreError, match="Not a directory"):
        list(DirectoryStore(tmp_path / "file").list(""))
    with pytest.raises(StoreUnreachable, match="a link that leads nowhere"):
        list(DirectoryStore(tmp_path / "link").list(""))
    assert list(DirectoryStore(tmp_path / "nothing").list("")) == []


def test_a_folder_that_cannot_be_read_is_no_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listing lacks nothing silently: what lies in an unreadable folder may be all there is."""
    store = DirectoryStore(tmp_path)
    put(store, "backups/a.db")
    scan = os.scandir

    def refuse(path: object) -> object:
        if str(path).endswith("backups"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scan(path)  # type: ignore[call-overload]

    monkeypatch.setattr(os, "scandir", refuse)

    with pytest.raises(StoreAccessDenied, match="Permission denied"):
        list(store.list(""))
