"""From a version without marks to this one: what its own log names is marked, and nothing else."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from backups.format import naming
from backups.format.later_mark import load_later_mark
from backups.format.mark import sha256_of
from backups.host import catalogues
from backups.model import Source
from backups.view import text
from shared.databases.cipher import TokenCipher
from shared.databases.tokens import TokenStorage
from tests.backups.conftest import LogLines
from tests.support.bench import PREFIX, Bench, open_bench
from tests.support.clock import FixedClock
from tests.support.databases import make_sources
from tests.support.installation import (
    TOKEN_ENCRYPTION_KEY,
    Installation,
    installation_in,
    secret_of,
)
from tests.support.marks import a_token_key
from tests.support.store_wrappers import WatchedStore, put

VERSION_BEFORE = Path(__file__).parents[1] / "support" / "version_before.tar.xz"

Open = Callable[..., Bench]


@pytest.fixture
def opened(tmp_path: Path, store: WatchedStore, clock: FixedClock) -> Iterator[Open]:
    """Opens a bench over the same store and databases, with the key of the tests."""
    sources: list[Source] = list(make_sources(tmp_path / "data", 60))
    with ExitStack() as stack:

        def opening(**changes: Any) -> Bench:
            return stack.enter_context(
                open_bench(tmp_path, store, clock=clock, sources=sources, **changes)
            )

        yield opening


@pytest.fixture
def before(opened: Open) -> Bench:
    """The version before: it has no keys for marks, and so makes and believes none."""
    return opened(mark_keys=())


def made_three(before: Bench, clock: FixedClock) -> list[str]:
    """The ids of three sets of the version before."""
    ids = []
    for _ in range(3):
        ids.append(before.made().id)
        clock.advance(hours=1)
    return ids


def marks(bench: Bench) -> dict[str, str]:
    """How each set is marked on this host."""
    return {one.id: one.mark for one in bench.service.catalogue.sets()}


def mark_keys_in(bench: Bench) -> list[str]:
    """The keys of the marks of a later time in the store."""
    return [key for key in bench.all_keys() if key.rpartition("/")[2].startswith("mark-")]


def planted(bench: Bench, like: str, at: str) -> str:
    """Store a set that is like another one, as somebody with a bucket key could; its id."""
    manifest = json.loads(bench.bytes_of(bench.manifest_key(like)))
    manifest.update(id=at, instant=naming.instant_of(at).strftime("%Y-%m-%dT%H:%M:%SZ"))
    put(bench.store, bench.manifest_key(at), json.dumps(manifest).encode())
    return at


def upgraded(opened: Open, **changes: Any) -> Bench:
    """The same installation with this version, as a start finds it."""
    bench = opened(**changes)
    bench.service.upgrade_marks.note()
    return bench


# --- which sets -------------------------------------------------------------------------


def test_the_sets_that_the_log_names_are_marked_by_one_small_object_each(
    opened: Open, before: Bench, clock: FixedClock
) -> None:
    """The object names the manifest by its SHA-256; nothing that was there is touched."""
    ids = made_three(before, clock)
    stored = before.everything()

    bench = upgraded(opened)
    bench.service.later_marks.finish()

    keys = mark_keys_in(bench)
    assert len(keys) == 3
    assert {key: body for key, body in bench.everything().items() if key not in keys} == stored
    for key, set_id in zip(keys, ids, strict=True):
        named = load_later_mark(bench.bytes_of(key), expected_id=set_id).documents
        assert named == {"manifest": sha256_of(stored[bench.manifest_key(set_id)])}
        metadata = bench.store.head(key).metadata
        assert (metadata["set-id"], metadata["instance"]) == (set_id, bench.directory.instance())
    elsewhere = opened(directory="another-host")
    elsewhere.service.catalogue.refresh()
    assert marks(elsewhere) == dict.fromkeys(ids, "valid")
    assert elsewhere.service.own_sets.required_latest().id == ids[-1]


def test_what_the_log_does_not_name_stays_unsigned(
    opened: Open, before: Bench, clock: FixedClock
) -> None:
    """Neither a planted set, nor one whose manifest is not the one that its run recorded."""
    first, changed, last = made_three(before, clock)
    plant = planted(before, first, "20261122T003000Z")
    assert before.verify(plant).status == "succeeded"  # a run names it that did not make it
    text = before.bytes_of(before.manifest_key(changed))
    before.store.delete(before.manifest_key(changed))
    before.service.catalogue.refresh()
    put(before.store, before.manifest_key(changed), text + b"\n")
    clock.advance(minutes=1)
    before.service.catalogue.refresh()

    bench = upgraded(opened)
    bench.service.later_marks.finish()

    assert marks(bench) == {
        first: "valid",
        last: "valid",
        changed: "unsigned",
        plant: "unsigned",
    }
    assert len(mark_keys_in(bench)) == 2


def test_the_verdicts_that_this_host_knows_keep_their_weight(
    opened: Open, before: Bench, clock: FixedClock
) -> None:
    """A later proof, an acceptance and a note that a set was set aside are named with it."""
    first, middle, last = made_three(before, clock)
    before.service.acceptance.accept(middle)
    clock.advance(minutes=1)
    before.service.verdicts.note_proof(first, "none", "it is damaged")
    clock.advance(minutes=1)
    plan = before.service.restore.plan(middle, accept_unsigned=True)
    assert before.service.restore.begin(plan).execute().status == "succeeded"

    bench = upgraded(opened)
    bench.service.later_marks.finish()
    elsewhere = opened(directory="another-host")
    elsewhere.service.catalogue.refresh()

    for one in (bench, elsewhere):
        catalogue = one.service.catalogue
        assert catalogue.accepted() == {middle}
        assert set(catalogue.asides()) == {last}
        assert catalogue.get(first).proof == "none"


# --- once -------------------------------------------------------------------------------


def test_a_set_that_is_planted_after_the_upgrade_is_never_marked(
    opened: Open, before: Bench, clock: FixedClock
) -> None:
    """Also where a run of the version before made one of that id: the upgrade is over."""
    first, vanished, _ = made_three(before, clock)
    text = before.bytes_of(before.manifest_key(vanished))
    before.store.delete(before.manifest_key(vanished))
    before.service.catalogue.refresh()
    bench = upgraded(opened)
    bench.service.later_marks.finish()

    put(bench.store, bench.manifest_key(vanished), text)
    plant = planted(bench, first, "20261122T003000Z")
    bench.service.catalogue.refresh()
    again = upgraded(opened)
    again.service.later_marks.finish()

    assert (marks(again)[vanished], marks(again)[plant]) == ("unsigned", "unsigned")
    assert len(mark_keys_in(again)) == 2


def test_a_set_of_a_version_before_that_came_back_is_not_marked(
    opened: Open, before: Bench, clock: FixedClock
) -> None:
    """The upgrade is noted once: what an older version makes afterwards stays unsigned."""
    upgraded(opened)
    made = before.made().id

    bench = upgraded(opened)

    assert marks(bench) == {made: "unsigned"}
    assert bench.service.later_marks.owed() == []


# --- until it is stored ------------------------------------------------------------------


def test_until_the_store_has_the_marks_this_host_takes_exactly_these_for_valid(
    opened: Open, before: Bench, clock: FixedClock, store: WatchedStore
) -> None:
    """With the store away they count at once; status says what is owed, and the next run pays."""
    ids = made_three(before, clock)
    store.break_at("put", 0)

    bench = upgraded(opened)
    bench.service.later_marks.finish()

    assert marks(bench) == dict.fromkeys(ids, "valid")
    found = bench.service.status()
    assert found.marks == (3, 3)
    assert "3 sets marked, 3 of them on this host alone" in text.status(found, clock.now())
    store.mend()
    assert mark_keys_in(bench) == []
    bench.service.catalogue.refresh()
    assert marks(bench) == dict.fromkeys(ids, "valid")
    bench.made()
    assert len(mark_keys_in(bench)) == 3
    found = bench.service.status()
    assert found.marks == (4, 0)
    assert "4 sets marked\n" in text.status(found, clock.now())


@pytest.mark.parametrize("done", [False, True])
def test_marking_that_was_stopped_goes_on(
    opened: Open, before: Bench, clock: FixedClock, store: WatchedStore, *, done: bool
) -> None:
    """Whether or not the store had taken the object, each set has one in the end."""
    made_three(before, clock)
    bench = upgraded(opened)
    store.break_at("put", len(store.keys("put")) + 1, done=done)
    bench.service.later_marks.finish()
    assert bench.service.later_marks.owed() != []
    store.mend()

    again = upgraded(opened)
    again.service.later_marks.finish()

    assert len(mark_keys_in(again)) == 3
    assert again.service.later_marks.owed() == []


def test_marking_that_was_killed_before_it_was_noted_begins_again(
    opened: Open, before: Bench, clock: FixedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the marks and the fact that all are noted: no set gets a second one."""
    made_three(before, clock)
    killed = opened()
    with monkeypatch.context() as patched:
        patched.setattr(catalogues, "note_upgrade_marked", _die)
        with pytest.raises(KeyboardInterrupt):
            killed.service.upgrade_marks.note()
    clock.advance(minutes=1)

    bench = upgraded(opened)
    bench.service.later_marks.finish()

    assert len(mark_keys_in(bench)) == 3


def test_a_manifest_that_is_another_one_in_the_store_is_not_marked(
    opened: Open, before: Bench, clock: FixedClock, log_lines: LogLines
) -> None:
    """What this host recorded is compared with the object; the set is named, and unsigned."""
    first, changed, last = made_three(before, clock)
    key = before.manifest_key(changed)
    before.replace_object(key, before.bytes_of(key) + b"\n")

    bench = upgraded(opened)
    bench.service.later_marks.finish()

    assert marks(bench) == {first: "valid", changed: "unsigned", last: "valid"}
    assert len(mark_keys_in(bench)) == 2
    assert f"set {changed} is not marked" in log_lines.text()
    assert bench.service.later_marks.owed() == []


def test_a_key_that_is_taken_gets_no_other_content(
    opened: Open, before: Bench, clock: FixedClock
) -> None:
    """Somebody has put something under the name of the mark: it is stored under another."""
    set_id = before.made().id
    bench = upgraded(opened)
    ((_, name),) = bench.service.later_marks.owed()
    put(bench.store, naming.document_key(PREFIX, set_id, name))

    bench.service.later_marks.finish()
    bench.service.later_marks.finish()

    assert len(mark_keys_in(bench)) == 2
    assert bench.bytes_of(naming.document_key(PREFIX, set_id, name)) == b"of another"
    assert marks(bench) == {set_id: "valid"}
    assert bench.service.later_marks.owed() == []


def _die(*_: object) -> None:
    raise KeyboardInterrupt


# --- with the code of the version before ---------------------------------------------------


@pytest.fixture(scope="module")
def version_before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the packages of the version before the marks."""
    folder = tmp_path_factory.mktemp("version-before")
    with tarfile.open(VERSION_BEFORE) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture
def burned(tmp_path: Path, version_before: Path) -> Installation:
    """An installation with two sets of the version before."""
    installation = installation_in(tmp_path / "old", BACKUP_LOCAL_STORE=str(tmp_path / "bucket"))
    installation.make_databases()
    for _ in range(2):
        environment = {**installation.environment, "PYTHONPATH": str(version_before)}
        done = subprocess.run(
            [sys.executable, "-m", "backups", "run"],
            cwd=installation.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    for manifest in (tmp_path / "bucket").glob("backups/sets/*/manifest.json"):
        assert "mac" not in json.loads(manifest.read_text())
    return installation


def on_a_new_host(tmp_path: Path, burned: Installation) -> Installation:
    """The host is gone with all its files; another one has the settings and the store."""
    shutil.rmtree(burned.folder)
    new = installation_in(tmp_path / "new", BACKUP_LOCAL_STORE=str(tmp_path / "bucket"))
    new.tokens_path.parent.mkdir(parents=True)
    return new


def tokens_of(installation: Installation) -> list[str]:
    with closing(
        TokenStorage(installation.tokens_path, TokenCipher((TOKEN_ENCRYPTION_KEY,)))
    ) as storage:
        return [storage.get(key) or "" for key in storage.keys()]  # noqa: SIM118 - no dictionary


def test_a_host_that_burns_down_right_after_the_upgrade_loses_nothing(
    tmp_path: Path, burned: Installation
) -> None:
    """The first command has marked what the version before had made: `latest` means it."""
    done = burned.cli("verify")
    assert done.returncode == 0, done.stderr
    assert "2 sets marked" in burned.cli("status").stdout
    new = on_a_new_host(tmp_path, burned)

    restored = new.cli("restore", "--in-place", "--yes")

    assert restored.returncode == 0, restored.stderr
    assert tokens_of(new) == [secret_of(number) for number in range(3)]


def test_a_host_that_burned_down_before_the_upgrade_comes_back_with_the_typed_line(
    tmp_path: Path, burned: Installation
) -> None:
    """Nothing is chosen; the line that the refusal names brings the data back, and the sets."""
    newest = burned.json("list")["sets"][0]
    new = on_a_new_host(tmp_path, burned)

    refused = new.cli("restore", "--in-place", "--yes")
    assert refused.returncode != 0
    (line,) = re.findall(r"\./bot backups (restore \S+ .*--accept-unsigned)", refused.stderr)
    restored = new.cli(*line.split())

    assert restored.returncode == 0, restored.stderr
    assert tokens_of(new) == [secret_of(number) for number in range(3)]
    adopt = f"adopt {newest['instance']} --accept-unsigned"
    assert adopt in restored.stdout
    adopted = new.cli(*adopt.split())
    assert adopted.returncode == 0, adopted.stderr
    assert {one["mark"] for one in new.json("list")["sets"]} == {"valid"}
    assert new.json("status")["newest_restore_point"]["id"] == newest["id"]


def test_a_first_command_with_a_wrong_key_marks_nothing(burned: Installation) -> None:
    """Else nobody could check the marks once the right key is back: it marks all of them."""
    wrong = burned.with_settings(TOKEN_ENCRYPTION_KEYS=a_token_key("wrong"))
    status = wrong.cli("status")
    assert status.returncode == 3
    assert "their key" in status.stderr
    assert "not in TOKEN_ENCRYPTION_KEYS: add it, after the first" in status.stderr

    found = burned.json("list")["sets"]

    assert {one["mark"] for one in found} == {"valid"}
    assert burned.json("status")["newest_restore_point"]["id"] == found[0]["id"]
