"""`adopt INSTANCE --accept-unsigned`: the sets without a mark that prove get one."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from backups.errors import InstanceUnknown
from backups.model import Source
from shared.errors import SettingsError
from tests.support.bench import Bench, open_bench
from tests.support.clock import FixedClock
from tests.support.databases import make_sources
from tests.support.installation import installation_in
from tests.support.marks import a_token_key, mark_key_of
from tests.support.store_wrappers import WatchedStore

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
def lost(opened: Open, clock: FixedClock) -> list[str]:
    """The ids of three sets without marks, which an installation that is gone has made."""
    before = opened(directory="gone", mark_keys=())
    ids = []
    for _ in range(3):
        ids.append(before.made().id)
        clock.advance(hours=1)
    return ids


def marks(bench: Bench) -> dict[str, str]:
    return {one.id: one.mark for one in bench.service.catalogue.sets()}


def instance_of(bench: Bench, set_id: str) -> str:
    bench.service.catalogue.refresh()
    return bench.service.catalogue.get(set_id).instance or ""


def test_sets_that_prove_are_marked_and_count_as_ours(opened: Open, lost: list[str]) -> None:
    """Here, on the next host, and for `latest`; each was read back first."""
    bench = opened()
    instance = instance_of(bench, lost[0])
    gets = len(bench.watched.keys("get"))

    run = bench.service.unsigned_sets.begin(instance).execute()

    assert run.status == "succeeded"
    read = bench.watched.keys("get")[gets:]
    for set_id in lost:
        objects = bench.service.catalogue.get(set_id).objects
        assert {one.key for one in objects} <= set(read)
    assert marks(bench) == dict.fromkeys(lost, "valid")
    assert instance in bench.service.own_sets.ours()
    assert bench.service.own_sets.required_latest().id == lost[-1]
    elsewhere = opened(directory="next")
    assert elsewhere.service.own_sets.refresh() is None
    assert elsewhere.service.own_sets.required_latest().id == lost[-1]


def test_the_remedy_for_another_writer_without_marks_is_the_one_that_works(
    opened: Open, lost: list[str]
) -> None:
    """`adopt` alone refuses an installation without marks, and names the line to type."""
    bench = opened()
    instance = instance_of(bench, lost[0])

    (found,) = (one for one in bench.service.status().health.problems if one.code == "two_writers")
    with pytest.raises(InstanceUnknown, match=r"no set of .* carries a valid mark") as refused:
        bench.service.adoption.adopt(instance)

    line = f"./bot backups adopt {instance} --accept-unsigned"
    assert f"{line}." in found.hint
    assert refused.value.hint == f"If they are yours: {line}"


def test_an_installation_of_another_key_is_told_which_key_it_needs(
    opened: Open, clock: FixedClock
) -> None:
    """`--accept-unsigned` marks none of its sets, and does not say that they count."""
    other = mark_key_of(a_token_key("other"))
    made = opened(directory="gone", mark_keys=(other,)).made()
    bench = opened()
    instance = instance_of(bench, made.id)

    for adopt in (bench.service.adoption.adopt, bench.service.unsigned_sets.begin):
        with pytest.raises(InstanceUnknown) as refused:
            adopt(instance)
        assert f"Put the key {other.fingerprint} back" in refused.value.hint


def test_a_set_that_does_not_prove_is_named_and_stays_unsigned(
    opened: Open, lost: list[str]
) -> None:
    """The run fails by its name, and the others are marked."""
    bench = opened()
    instance = instance_of(bench, lost[1])
    stored = bench.service.catalogue.get(lost[1]).objects[0]
    bench.replace_object(stored.key, b"x" * stored.bytes)

    run = bench.service.unsigned_sets.begin(instance).execute()

    assert run.error is not None
    assert run.error.code == "proof_failed"
    assert f"1 of 3 unsigned sets of installation {instance}" in run.error.message
    assert f"{lost[1]} ({stored.key}" in run.error.message
    assert marks(bench) == {lost[0]: "valid", lost[1]: "unsigned", lost[2]: "valid"}
    assert bench.service.own_sets.required_latest().id == lost[2]


def test_a_set_whose_mark_is_wrong_is_not_accepted(opened: Open, clock: FixedClock) -> None:
    """Somebody has changed what was marked: nothing makes that right."""
    bench = opened()
    made = bench.made()
    clock.advance(hours=1)
    text = bench.bytes_of(bench.manifest_key(made.id))
    bench.replace_manifest(made.id, text.replace(b'"complete": true', b'"complete": false'))
    bench.service.catalogue.refresh()
    assert marks(bench) == {made.id: "wrong"}

    bench.service.unsigned_sets.begin(bench.directory.instance()).execute()

    assert marks(bench) == {made.id: "wrong"}


def test_the_own_id_is_taken_too(opened: Open, clock: FixedClock) -> None:
    """What an upgrade left unsigned of this very installation."""
    made = opened(mark_keys=()).made()
    bench = opened()
    assert marks(bench) == {made.id: "unsigned"}

    run = bench.service.unsigned_sets.begin(bench.directory.instance()).execute()

    assert run.status == "succeeded"
    assert marks(bench) == {made.id: "valid"}
    assert bench.service.own_sets.ours() == {bench.directory.instance()}


def test_other_installations_are_left_as_they_are(opened: Open, lost: list[str]) -> None:
    """A person speaks for one installation."""
    other = opened(directory="other", mark_keys=()).made()
    bench = opened()

    bench.service.unsigned_sets.begin(instance_of(bench, lost[0])).execute()

    assert marks(bench)[other.id] == "unsigned"


def test_without_keys_nothing_can_be_marked(opened: Open, lost: list[str]) -> None:
    """The error names the setting."""
    bench = opened(mark_keys=())
    with pytest.raises(SettingsError, match="TOKEN_ENCRYPTION_KEYS"):
        bench.service.unsigned_sets.begin(instance_of(bench, lost[0]))


def test_an_installation_without_a_set_is_unknown(opened: Open) -> None:
    """The error says where its id is to be found."""
    with pytest.raises(InstanceUnknown, match="no set of an installation 'nobody'"):
        opened().service.unsigned_sets.begin("nobody")


def test_the_command_does_not_say_that_no_set_counts(tmp_path: Path) -> None:
    """Where the sets are of a key that is not here, none is marked, and it says so."""
    installation = installation_in(tmp_path).make_databases()
    made = installation.json("run")["set"]
    other = installation.with_settings(TOKEN_ENCRYPTION_KEYS=a_token_key("other"))

    done = other.cli("adopt", made["instance"], "--accept-unsigned")

    assert f"No set of installation {made['instance']} was marked" in done.stdout
    assert "count as this one's" not in done.stdout


def test_the_command_says_how_many_are_marked(tmp_path: Path) -> None:
    """Text and JSON; an id that is not there exits with 1."""
    installation = installation_in(tmp_path).make_databases()
    made = installation.json("run")["set"]
    manifest = installation.stored(f"backups/sets/{made['id']}/manifest.json")
    body = manifest.read_bytes()
    manifest.unlink()
    installation.json("list")
    manifest.write_bytes(io.BytesIO(body).getvalue().partition(b',\n  "mac"')[0] + b"\n}\n")

    done = installation.cli("adopt", made["instance"], "--accept-unsigned")

    assert done.returncode == 0, done.stderr
    assert f"Marked 1 set of installation {made['instance']}" in done.stdout
    found = installation.json("adopt", made["instance"], "--accept-unsigned")
    assert (found["operation"], found["marked"]) == ("verify", 1)
    assert installation.cli("adopt", "nobody", "--accept-unsigned").returncode == 1
