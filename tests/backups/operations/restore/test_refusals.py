"""What a restore refuses by name: damaged objects, false manifests, missing keys, wrong owners.

After each refusal nothing live has changed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from backups.errors import (
    ManifestInvalid,
    ManifestNewer,
    NoRestorePoint,
    RestoreBlocked,
    SetNotFound,
)
from backups.model import BackupSet
from backups.sets.seal import generate_key_pair
from shared.clock import Clock, SystemClock
from tests.support.bench import PREFIX, Bench, open_bench
from tests.support.generations import SOURCES, generation_of, write_generation
from tests.support.installation import REPOSITORY, TOKEN_ENCRYPTION_KEY, installation_in
from tests.support.marks import MARK_KEY, signed_manifest
from tests.support.store_wrappers import put

NOBODY = 65534
SECRET, PUBLIC = generate_key_pair()
OTHER_SECRET, OTHER_PUBLIC = generate_key_pair()
SEALS: dict[str, dict[str, str]] = {
    "plain": {},
    "zstd": {"BACKUP_COMPRESSION": "zstd"},
    "zstd and age": {"BACKUP_COMPRESSION": "zstd", "BACKUP_AGE_RECIPIENTS": PUBLIC},
}


def identity(folder: Path, secret: str = SECRET) -> str:
    """The path of an identity file."""
    path = folder / f"identity-{secret[-8:]}"
    path.write_text(secret)
    path.chmod(0o600)
    return str(path)


def everything_live(bench: Bench) -> dict[str, tuple[int, str]]:
    """Inode and generation of both live databases."""
    return {
        source: (bench.live(source).stat().st_ino, generation_of(bench.live(source)))
        for source in SOURCES
    }


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A set with `genset` in the store alone, and `genlive` in the live databases."""
    with scene(tmp_path) as bench:
        yield bench


def scene(
    folder: Path, settings: Mapping[str, str] | None = None, clock: Clock | None = None
) -> AbstractContextManager[Bench]:
    """See `bench`; under other settings, or made at the time of another clock."""
    folder.mkdir(exist_ok=True)
    with open_bench(folder, settings=settings or {}, clock=clock) as bench:
        bench.write("genset")
        bench.made()
        bench.write("genlive")
        bench.forget_copies()
    return open_bench(folder, settings=settings or {})


def refused(bench: Bench, code: str, naming: str = "", **options: Any) -> None:
    """A restore in place fails in its run with this code, and a restore to a folder too."""
    before = everything_live(bench)
    for to in (None, bench.folder / "target"):
        run = bench.restore(to=to, **options)
        assert run.error is not None, "it was restored"
        assert run.error.code == code, run.error
        assert naming in run.error.message
        assert run.error.hint
        assert everything_live(bench) == before
    assert not (bench.folder / "target" / "tokens.db").exists()
    assert bench.safety_copies("tokens") == []


# --- objects ------------------------------------------------------------------------------


def cut(bench: Bench, body: bytes) -> bytes:
    """The first half."""
    return body[: len(body) // 2]


def cut_by_one(bench: Bench, body: bytes) -> bytes:
    """All but the last byte."""
    return body[:-1]


def flip(bench: Bench, body: bytes) -> bytes:
    """One bit of it is changed."""
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]


def empty(bench: Bench, body: bytes) -> bytes:
    """Nothing of it."""
    return b""


def of_another_set(bench: Bench, body: bytes) -> bytes:
    """The same source's object of a later set."""
    later = bench.made()
    bench.forget_copies()
    key = next(o.key for o in later.objects if o.source == "sessions")
    return bench.bytes_of(key)


@pytest.mark.parametrize("seal", SEALS.values(), ids=SEALS.keys())
@pytest.mark.parametrize("harm", [cut, cut_by_one, flip, empty, of_another_set])
def test_an_object_that_is_not_what_was_put_is_refused(
    tmp_path: Path, harm: Callable[[Bench, bytes], bytes], seal: dict[str, str]
) -> None:
    """A changed object of one source stops the restore of all, before anything is touched."""
    identities = {"BACKUP_AGE_IDENTITY_FILE": identity(tmp_path)} if len(seal) == 2 else {}
    with scene(tmp_path, {**seal, **identities}) as bench:
        made = bench.service.catalogue.latest()
        assert made is not None
        key = next(o.key for o in made.objects if o.source == "sessions")
        bench.replace_object(key, harm(bench, bench.bytes_of(key)))
        refused(bench, "proof_failed", key, target=made.id)


def test_an_object_that_is_gone_is_refused(bench: Bench) -> None:
    """A set whose object is not there any more is refused by the object's name."""
    made = bench.service.catalogue.latest()
    assert made is not None
    bench.store.delete(made.objects[1].key)
    refused(bench, "proof_failed", made.objects[1].key, target=made.id)


def test_two_objects_that_were_exchanged_are_refused(bench: Bench) -> None:
    """The sessions under the key of the tokens are not restored as tokens."""
    made = bench.service.catalogue.latest()
    assert made is not None
    first, second = (bench.bytes_of(stored.key) for stored in made.objects)
    bench.replace_object(made.objects[0].key, second)
    bench.replace_object(made.objects[1].key, first)
    refused(bench, "proof_failed", target=made.id)


# --- manifests ----------------------------------------------------------------------------


def set_in(bench: Bench) -> BackupSet:
    """The set of the scene."""
    return next(bench.service.catalogue.sets())


def change_manifest(bench: Bench, change: Callable[[dict[str, Any]], None]) -> str:
    """Store a changed manifest, which has a valid mark all the same; the set's id."""
    set_id = set_in(bench).id
    document = bench.manifest_of(set_id)
    change(document)
    bench.replace_manifest(set_id, signed_manifest(set_id, json.dumps(document).encode()))
    return set_id


@pytest.mark.parametrize("keep", [0, 1, 100, -2])
def test_a_cut_manifest_is_refused(bench: Bench, keep: int) -> None:
    """A manifest that lacks a part is named, and is no restore point that `latest` would mean."""
    before = everything_live(bench)
    set_id = set_in(bench).id
    content = bench.bytes_of(bench.manifest_key(set_id)).rstrip()
    bench.replace_manifest(set_id, content[: keep - 1] if keep < 0 else content[:keep])
    with pytest.raises(ManifestInvalid, match=set_id):
        bench.restore(set_id)
    with pytest.raises(NoRestorePoint):
        bench.restore()
    assert everything_live(bench) == before


def test_a_newer_manifest_is_refused(bench: Bench) -> None:
    """A manifest of a later format says which version of the program is needed."""
    set_id = change_manifest(bench, lambda manifest: manifest.update(format=2, new="field"))
    with pytest.raises(ManifestNewer, match="format 2"):
        bench.restore(set_id)
    with pytest.raises(NoRestorePoint):
        bench.restore()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sha256", "0" * 64),
        ("snapshot_sha256", "0" * 64),
        ("bytes", 12288),
        ("snapshot_bytes", 4096),
        ("page_count", 1),
        ("page_size", 1024),
        ("user_version", 0),
        ("rows", {"tokens": 11}),
        ("rows", {}),
    ],
)
@pytest.mark.parametrize("seal", ["plain", "zstd"])
def test_a_manifest_that_lies_is_refused(
    tmp_path: Path, seal: str, field: str, value: object
) -> None:
    """A hash, size or count that is not that of the object stops the restore; a count, where SQLite
    is to look, as it is where no mark vouches for the manifest."""
    with scene(tmp_path, SEALS[seal]) as bench:

        def lie(manifest: dict[str, Any]) -> None:
            manifest["objects"][0][field] = value
            if seal == "plain" and field in ("snapshot_sha256", "snapshot_bytes"):
                # Of an unsealed object both are the same; a lie has to be about both.
                manifest["objects"][0][field.removeprefix("snapshot_")] = value

        changed = change_manifest(bench, lie)
        run = bench.restore(changed, check=True)
        assert run.error is not None
        assert run.error.code in ("proof_failed", "seal_broken"), run.error
        assert bench.generations() == dict.fromkeys(SOURCES, "genlive")


TRICKS = [
    "../../escape.db",
    "backups/../../escape.db",
    "/etc/passwd",
    "/tmp/tokens_2026-11-22.db",
    "backups/sub/../tokens_2026-11-22.db",
    "backups/tokens_2026-11-22.db/../../../escape",
    "elsewhere/tokens_2026-11-22.db",
    "tokens_2026-11-22.db",
    "backups/sessions_2026-11-22.db",
    "backups/tokens_2026-11-22.db\x00.zst",
    "backups/tokens_2026-11-22.db.zst.age.exe",
    "backups/tokens_2026-11-22.sh",
    "backups/tokens_2026-99-99.db",
    "backups\\tokens_2026-11-22.db",
    "",
]


@pytest.mark.parametrize("key", TRICKS)
def test_a_key_outside_its_place_is_refused(bench: Bench, key: str) -> None:
    """A manifest that names a key which is not one of its source's is not to be trusted."""
    before = snapshot_of_the_world(bench)
    set_id = change_manifest(bench, lambda manifest: manifest["objects"][0].update(key=key))
    for to in (None, bench.folder / "target"):
        with pytest.raises(ManifestInvalid):
            bench.restore(set_id, to=to)
    assert snapshot_of_the_world(bench) == before


@pytest.mark.parametrize(
    "source", ["../escape", "..", "/etc/passwd", "a/b", "Tokens", "", "tokens\n", "x" * 33, "."]
)
def test_a_source_that_is_a_path_is_refused(bench: Bench, source: str) -> None:
    """The name of a source becomes a file name, so it is a plain name or the set is refused."""
    before = snapshot_of_the_world(bench)

    def trick(manifest: dict[str, Any]) -> None:
        manifest["objects"][0]["source"] = source
        manifest["objects"][0]["key"] = f"{PREFIX}{source}_2026-11-22.db"

    set_id = change_manifest(bench, trick)
    for to in (None, bench.folder / "target"):
        with pytest.raises(ManifestInvalid):
            bench.restore(set_id, to=to)
    assert snapshot_of_the_world(bench) == before


@pytest.mark.parametrize(
    "set_id", ["../../x", "20261122T000000Z/../..", "", ".", "/", "legacy-../x"]
)
def test_an_id_that_is_a_path_is_no_restore_point(bench: Bench, set_id: str) -> None:
    """A set id that is a path finds nothing and writes nothing."""
    before = snapshot_of_the_world(bench)
    with pytest.raises(SetNotFound):
        bench.service.restore.plan(set_id)
    assert snapshot_of_the_world(bench) == before


@pytest.mark.parametrize("false_id", ["../../x", "20261122T000001Z", "legacy-2026-11-22"])
def test_a_manifest_with_another_id_is_refused(bench: Bench, false_id: str) -> None:
    """The id in a manifest must be the one it is stored under."""
    set_id = change_manifest(bench, lambda manifest: manifest.update(id=false_id))
    with pytest.raises(ManifestInvalid):
        bench.restore(set_id)


@pytest.mark.parametrize(
    "key",
    [
        "sets/legacy-2026-11-20/manifest.json",
        "sets/legacy-2026-11-20/proof-20261122T000000Z.json",
        "sets/20200101T000000Z/manifest.json",
        "sets/20200101T000000Z/proof-20261122T000000Z.json",
    ],
)
@pytest.mark.parametrize("body", [b"", b"{}", b'{"format": 1}', b"\xff"])
def test_a_strangers_document_stops_nothing(bench: Bench, key: str, body: bytes) -> None:
    """A document that someone else put into the bucket hides no restore point."""
    put(bench.store, f"{PREFIX}{key}", body)
    assert [found.kind for found in bench.service.catalogue.sets()][:1] == ["set"]
    bench.service.own_sets.refresh()
    bench.service.status()
    bench.restored()
    assert bench.generations() == dict.fromkeys(SOURCES, "genset")


def snapshot_of_the_world(bench: Bench) -> set[str]:
    """Every path around the installation but those of logs, records and the store."""
    around = bench.folder.parent.rglob("*")
    inside = {str(path) for path in around if not path.name.startswith(("runs.db", "run.lock"))}
    return {
        path for path in inside if "/spaces/" not in path and not path.endswith(("-wal", "-shm"))
    }


# --- keys -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("secret", "code"), [(None, "identity_missing"), (OTHER_SECRET, "identity_wrong")]
)
def test_without_the_right_identity_the_plan_is_blocked(
    tmp_path: Path, secret: str | None, code: str
) -> None:
    """A missing or wrong age identity is in the plan, and stops both ways of restoring."""
    with scene(tmp_path, SEALS["zstd and age"]):
        pass
    settings = {"BACKUP_AGE_IDENTITY_FILE": identity(tmp_path, secret)} if secret else {}
    with open_bench(tmp_path, settings={**SEALS["zstd and age"], **settings}) as bench:
        before = everything_live(bench)
        plan = bench.service.restore.plan()
        assert [found.code for found in plan.blockers] == [code]
        assert plan.blockers[0].hint
        for to in (None, tmp_path / "target"):
            with pytest.raises(RestoreBlocked) as blocked:
                bench.restore(to=to)
            assert blocked.value.code == code
        assert everything_live(bench) == before
        assert not (tmp_path / "target").exists()
        assert bench.service.run_log.last("restore", "failed", "succeeded") is None


def test_with_the_right_identity_a_sealed_set_is_restored(tmp_path: Path) -> None:
    """One of several recipients' identities is enough."""
    both = {**SEALS["zstd and age"], "BACKUP_AGE_RECIPIENTS": f"{OTHER_PUBLIC},{PUBLIC}"}
    with scene(tmp_path, {**both, "BACKUP_AGE_IDENTITY_FILE": identity(tmp_path)}) as bench:
        made = bench.service.catalogue.latest()
        assert made is not None
        assert made.proof == "full"
        bench.restored()
        assert bench.generations() == dict.fromkeys(SOURCES, "genset")


def test_without_the_identity_local_copies_are_what_is_left(tmp_path: Path) -> None:
    """The proof of a sealed set is `sealed`, and the plan tells that it cannot be opened here."""
    with open_bench(tmp_path, settings=SEALS["zstd and age"]) as bench:
        bench.write("genset")
        assert bench.made().proof == "sealed"


def test_a_manifest_that_lies_about_its_recipients(tmp_path: Path) -> None:
    """When the identity does not fit after all, the run fails by name and touches nothing."""
    settings = {
        **SEALS["zstd and age"],
        "BACKUP_AGE_IDENTITY_FILE": identity(tmp_path, OTHER_SECRET),
    }
    with scene(tmp_path, SEALS["zstd and age"]):
        pass
    with open_bench(tmp_path, settings=settings) as bench:
        change_manifest(bench, lambda manifest: manifest.update(recipients=[OTHER_PUBLIC]))
        refused(bench, "identity_wrong")


OTHER_KEY = Fernet.generate_key().decode()


def test_a_rotated_token_key_restores(tmp_path: Path) -> None:
    """With the old key kept behind the new one nothing is in the way, and the tokens open."""
    with scene(tmp_path):
        pass
    keys = f"{OTHER_KEY},{TOKEN_ENCRYPTION_KEY}"
    with open_bench(tmp_path, settings={"TOKEN_ENCRYPTION_KEYS": keys}) as bench:
        assert bench.service.restore.plan().warnings == ()
        assert "token_key_lost" not in {p.code for p in bench.service.status().health.problems}
        bench.restored()
        assert bench.generations() == dict.fromkeys(SOURCES, "genset")


def test_a_lost_token_key_is_named_and_stops_a_restore_in_place(tmp_path: Path) -> None:
    """Plan and status name the key; in place is refused before anything is touched."""
    with scene(tmp_path) as bench:
        fingerprint = bench.service.config.token_keys[0]
    other = {"TOKEN_ENCRYPTION_KEYS": OTHER_KEY}
    # Its mark is believed, or it would be refused for that.
    with open_bench(tmp_path, settings=other, mark_keys=(MARK_KEY,)) as bench:
        write_generation(tmp_path, "genlive", key=OTHER_KEY)
        before = everything_live(bench)
        (warning,) = bench.service.restore.plan().warnings
        (problem,) = (
            found
            for found in bench.service.status().health.problems
            if found.code == "token_key_lost"
        )
        assert warning.code == "token_key_lost"
        for found in (warning, problem):
            assert fingerprint in found.message
            assert "TOKEN_ENCRYPTION_KEYS" in found.hint
            assert OTHER_KEY not in found.message + found.hint
        run = bench.restore()
        assert run.error is not None
        assert run.error.code == "decryption_failed"
        assert everything_live(bench) == before
        assert bench.safety_copies("sessions") == []
        bench.restored(to=tmp_path / "target")
        assert generation_of(tmp_path / "target" / "tokens.db") == "genset"


# --- owners ---------------------------------------------------------------------------------


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter, unlike pytest's."""
    folder = Path(tempfile.mkdtemp(prefix="restore-owner-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


_AS_ANOTHER_USER = """
import os, json, _strptime
from backups.wiring import open_service
from shared.errors import AppError
from shared.settings.load import load_settings
settings = load_settings(dict(os.environ), for_app=True)
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
else:
    os.geteuid = lambda: 65534
with open_service(settings) as service:
    plan = service.restore.plan()
    run = service.restore.begin(plan).execute()
    print(json.dumps([run.status, run.error.code, run.error.hint, run.stage]))
"""


@pytest.mark.slow
def test_another_user_is_refused_before_anything_is_touched(open_folder: Path) -> None:
    """Who would leave files that the app's user does not own is told to go on as that user."""
    with scene(open_folder) as bench:
        before = everything_live(bench)
    if os.geteuid() == 0:
        for path in (open_folder / "data" / "backups", open_folder / "data" / "spaces"):
            for one in (path, *path.rglob("*")):
                os.chown(one, NOBODY, NOBODY)
    for source in SOURCES:
        (open_folder / "data" / f"{source}.db").chmod(0o666)
    (open_folder / "data").chmod(0o777)
    done = subprocess.run(
        [sys.executable, "-c", _AS_ANOTHER_USER],
        cwd=REPOSITORY,
        env=installation_in(open_folder).environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    status, code, hint, stage = json.loads(done.stdout)
    assert (status, code, stage) == ("failed", "owner_differs", "check")
    assert f"sudo -u '#{os.geteuid()}'" in hint
    with open_bench(open_folder, settings={}) as bench:
        assert everything_live(bench) == before
        assert bench.safety_copies("tokens") == []


_CLI = """
import sys
from backups.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_root_goes_on_as_the_owner_of_the_data(open_folder: Path) -> None:
    """`sudo ./bot backups restore` leaves no file of root's in the data directory."""
    with scene(open_folder, clock=SystemClock()):  # the set of an old one would be pruned
        pass
    data, owner = open_folder / "data", os.geteuid()
    if owner == 0:
        owner = NOBODY
        for one in (open_folder, data, *data.rglob("*")):
            os.chown(one, NOBODY, NOBODY)
    for arguments in (
        ["restore", "--in-place", "--yes"],
        ["run"],
        ["restore", "--undo", "--yes"],
        ["restore", "--to", str(data / "target")],
        ["drill"],
    ):
        done = subprocess.run(
            [sys.executable, "-c", _CLI, *arguments],
            cwd=open_folder,
            env=installation_in(open_folder).environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        if os.geteuid() == 0:
            assert "continuing as user 65534" in done.stderr
    for one in (data, *data.rglob("*")):
        assert one.stat().st_uid == owner, one


@pytest.mark.slow
@pytest.mark.parametrize("file", ["tokens.db", "sessions.db", "backups/heartbeats"])
def test_root_commands_an_app_that_root_runs_in_the_folder_of_another(
    open_folder: Path, file: str
) -> None:
    """Where root's app has left a file in another's folder, root goes on as root, `doctor` too."""
    if os.geteuid() != 0:
        return  # nobody else can command what belongs to root
    with scene(open_folder, clock=SystemClock()):
        pass
    data = open_folder / "data"
    (data / "backups" / "heartbeats").touch(0o600)
    owned = [data, *data.rglob("*")] if file.startswith("backups") else [data]
    for one in owned:
        os.chown(one, NOBODY, NOBODY)
    os.chown(data / file, 0, 0)
    commands = [["status"], ["doctor"], ["run"]]
    if file == "tokens.db":  # the databases are root's, too
        commands += [["restore", "--in-place", "--yes"], ["restore", "--undo", "--yes"]]
    for arguments in commands:
        done = subprocess.run(
            [sys.executable, "-c", _CLI, *arguments],
            cwd=open_folder,
            env=installation_in(open_folder).environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "continuing as root" in done.stderr
        assert "Permission denied" not in done.stdout + done.stderr
        assert "cannot be opened" not in done.stdout + done.stderr
        expected = (0,) if arguments[0] in ("run", "restore") else (0, 3)
        assert done.returncode in expected, done.stderr


@pytest.mark.slow
def test_a_database_that_is_missing_gets_the_owner_of_those_beside_it(open_folder: Path) -> None:
    """An app that root runs in another's folder gets a lost database back; a user whose databases
    are there does not get root's file."""
    if os.geteuid() != 0:
        return
    with scene(open_folder, clock=SystemClock()):
        pass
    data = open_folder / "data"
    os.chown(data, NOBODY, NOBODY)
    (data / "tokens.db").unlink()
    for owner, code in ((0, 0), (NOBODY, 1)):
        os.chown(data / "sessions.db", owner, owner)
        done = subprocess.run(
            [sys.executable, "-c", _CLI, "restore", "--in-place", "--yes", "--only", "tokens"],
            cwd=open_folder,
            env=installation_in(open_folder).environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done.stderr
        (data / "tokens.db").unlink(missing_ok=True)
    assert "would have the wrong owner" in done.stderr
