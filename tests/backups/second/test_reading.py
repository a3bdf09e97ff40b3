"""A restore takes whichever place answers, and in the second what nobody could change."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backups.wiring import open_service
from shared.clock import format_utc
from tests.backups.second.host import PREFIX, Host
from tests.support.generations import SOURCES, generation_of, live_path, write_generation
from tests.support.installation import Installation, installation_in, settings_of
from tests.support.s3_server import S3Server
from tests.support.second import SecondBucket

pytestmark = pytest.mark.slow


def generations(folder: Path) -> set[str]:
    """What the live databases hold."""
    return {generation_of(live_path(folder, source)) for source in SOURCES}


@pytest.fixture
def first(s3_server: S3Server) -> SecondBucket:
    """The bucket of the first place, which keeps nothing that is deleted."""
    return SecondBucket.new(s3_server, locks=False, versions=False)


def two_places(folder: Path, first: SecondBucket, second: SecondBucket) -> Installation:
    """An installation with both; the second is reached with another key, as it should be."""
    folder.mkdir(exist_ok=True)
    return installation_in(folder, **second.beside(first.settings, COPY_LOCK_DAYS="1"))


def test_after_a_theft_with_both_keys_the_newest_copy_comes_back(
    tmp_path: Path, first: SecondBucket, bucket: SecondBucket
) -> None:
    """A thief with the keys of both buckets deletes, hides, covers and plants all that he can.

    `restore` on an empty host takes the newest set that was copied, by itself, and none of his.
    """
    host = two_places(tmp_path / "host", first, bucket)
    made = []
    for generation in ("one", "two"):
        write_generation(host.folder, generation)
        made.append(host.json("run")["set"])
    assert host.json("copy")["waiting"] == 0
    manifest = f"{PREFIX}sets/{made[1]['id']}/manifest.json"
    stolen = first.bytes_of(manifest)
    first.rob()
    bucket.rob()
    later = json.loads(stolen)
    later["id"], later["sequence"] = "20990101T000000Z", 10**9
    for place in (first, bucket):
        for one in made[1]["objects"]:
            place.plant(one["key"], b"SQLite format 3\x00 of a thief", sha256=one["sha256"])
        place.plant(manifest, json.dumps(later).encode())
        place.plant(f"{PREFIX}sets/20990101T000000Z/manifest.json", json.dumps(later).encode())
    empty = two_places(tmp_path / "empty", first, bucket)
    done = empty.cli("restore", "--in-place", "--yes")
    assert done.returncode == 0, done.stderr
    assert "From the second place" in done.stderr
    assert made[1]["id"] in done.stdout
    assert generations(empty.folder) == {"two"}


def test_what_was_hidden_or_covered_is_listed_and_read(host: Host, bucket: SecondBucket) -> None:
    """By a plain request it is gone, or something else; the older version counts."""
    one, two = host.made("one"), host.made("two")
    host.second.copy()
    hidden, covered = one.objects[0].key, two.objects[0].key
    bucket.hide(hidden)
    bucket.plant(covered, b"of a thief")
    bucket.hide(f"{PREFIX}sets/{one.id}/manifest.json")
    assert hidden not in bucket.listed()
    second = host.open_second()
    second.catalogue.refresh()
    for made in (one, two):
        assert second.verify.begin(made.id).execute().error is None
    state, copied = host.second.copy()
    assert (state.hidden, state.covered, copied.copied) == (2, 1, 0)
    assert "copy_disturbed" in {found.code for found in host.service.status().health.amber}


def test_stored_before_takes_only_what_the_place_had_received(
    tmp_path: Path, first: SecondBucket, bucket: SecondBucket
) -> None:
    """Who has the whole `.env` can make marks: the time of the second store tells what is older."""
    host = two_places(tmp_path / "host", first, bucket)
    write_generation(host.folder, "before")
    before = host.json("run")["set"]
    assert host.cli("copy").returncode == 0
    time.sleep(1.1)  # the store's times are whole seconds
    theft = format_utc(datetime.now(UTC).replace(microsecond=0))
    time.sleep(1.1)
    write_generation(host.folder, "after")
    after = host.json("run")["set"]
    # A thief with the keys deletes what is older: that is noted there, and nothing is gone.
    host.json("delete", before["id"], "--confirm", before["id"])
    assert host.cli("copy").returncode == 0
    empty = two_places(tmp_path / "empty", first, bucket)
    now = empty.cli("list", "--place", "second")
    assert after["id"] in now.stdout
    assert before["id"] not in now.stdout
    listed = empty.cli("list", "--place", "second", "--stored-before", theft)
    assert before["id"] in listed.stdout
    assert after["id"] not in listed.stdout
    plan = empty.cli("restore", "--place", "second", "--stored-before", theft)
    assert f"--place second --stored-before {theft} --in-place --yes" in plan.stdout
    done = empty.cli(
        "restore", "--place", "second", "--stored-before", theft, "--in-place", "--yes"
    )
    assert done.returncode == 0, done.stderr
    assert generations(empty.folder) == {"before"}
    assert empty.cli("list", "--stored-before", theft).returncode == 2


def test_the_newer_of_two_places_that_answer_is_taken(
    tmp_path: Path, first: SecondBucket, bucket: SecondBucket
) -> None:
    """Somebody deleted the newest set of the first place: the second has it, and it is said."""
    host = two_places(tmp_path / "host", first, bucket)
    write_generation(host.folder, "one")
    host.json("run")
    write_generation(host.folder, "two")
    two = host.json("run")["set"]
    assert host.cli("copy").returncode == 0
    for key in (f"{PREFIX}sets/{two['id']}/manifest.json", *(o["key"] for o in two["objects"])):
        first.hide(key)
    empty = two_places(tmp_path / "empty", first, bucket)
    plan = empty.cli("restore")
    assert "its newest point is from" in plan.stderr
    assert f"./bot backups restore {two['id']} --place second --in-place --yes" in plan.stdout
    kept = empty.cli("restore", "--place", "first")
    assert two["id"] not in kept.stdout
    assert empty.cli("restore", two["id"], "--to", str(tmp_path / "to")).returncode == 0


def test_while_the_first_place_is_away_the_second_serves(
    tmp_path: Path, first: SecondBucket, bucket: SecondBucket
) -> None:
    """Each command that reads says where from; the live data comes back with its lines."""
    host = two_places(tmp_path / "host", first, bucket)
    write_generation(host.folder, "stored")
    made = host.json("run")["set"]
    assert host.cli("copy").returncode == 0
    write_generation(host.folder, "lost")
    away = host.with_settings(SPACES_ENDPOINT="http://127.0.0.1:9")
    done = away.cli("restore", "--in-place", "--yes")
    assert done.returncode == 0, done.stderr
    assert "no connection" in done.stderr
    assert generations(host.folder) == {"stored"}
    assert away.cli("verify", made["id"], "--place", "second").returncode == 0
    assert away.cli("drill", "--place", "second").returncode == 0
    assert away.cli("list", "--place", "second").returncode == 0


def test_without_a_second_place_each_command_names_the_settings(tmp_path: Path) -> None:
    """As wrong settings do: exit code 2."""
    alone = installation_in(tmp_path)
    for command in (["copy"], ["list", "--place", "second"], ["restore", "--place", "second"]):
        done = alone.cli(*command)
        assert done.returncode == 2, command
        assert "Set the five COPY_ settings in .env" in done.stderr


def test_comparing_names_what_is_missing_and_what_differs(
    tmp_path: Path, s3_server: S3Server
) -> None:
    """By listing and by SHA-256; the exit code says it, too."""
    bucket = SecondBucket.new(s3_server, locks=False, versions=False)
    host = installation_in(tmp_path, **bucket.environment())
    write_generation(host.folder, "one")
    made = host.json("run")["set"]
    assert host.cli("copy").returncode == 0
    assert host.cli("copy", "--check").returncode == 0
    gone, other = (one["key"] for one in made["objects"])
    bucket.hide(gone)
    body = bucket.bytes_of(other)
    bucket.plant(other, body[:-1] + bytes([body[-1] ^ 1]))
    found = host.json("copy", "--check", exit_code=1)
    assert (found["missing"], found["different"]) == ([gone], [other])
    told = host.cli("copy", "--check").stdout
    assert gone in told
    assert "To copy what it lacks: ./bot backups copy" in told
    host.cli("copy")
    assert bucket.bytes_of(gone)


def test_scheduled_drills_take_turns(host: Host) -> None:
    """The first place, the second, the first."""
    host.made("one")
    host.second.copy()
    places = []
    for _ in range(3):
        with host.service.drilling() as service:
            places.append(service.store.location)
            assert service.drill.begin("scheduled").execute().error is None
    first, second = host.service.store.location, host.second.config.location
    assert places == [first, second, first]


def test_a_drill_does_not_wait_for_a_second_place_that_is_away(tmp_path: Path) -> None:
    """Its turn passes to the first one."""
    nowhere = {
        "COPY_API_KEY": "key",
        "COPY_API_SECRET": "secret",
        "COPY_REGION": "us-east-1",
        "COPY_BUCKET": "bucket",
        "COPY_ENDPOINT": "http://127.0.0.1:9",
    }
    installation = installation_in(tmp_path, **nowhere)
    with open_service(settings_of(installation)) as service:
        service.facts.second.note_drill("first")
        with service.drilling() as chosen:
            assert chosen is service


def test_an_empty_first_place_names_the_second(host: Host) -> None:
    """No other settings are needed to read there."""
    host.made("one")
    host.second.copy()
    for key in [one.key for one in host.service.store.list(PREFIX)]:
        host.service.store.delete(key)
    host.service.catalogue.refresh()
    said = " ".join(one.hint for one in host.service.status().health.problems)
    assert "The second place has restore points: ./bot backups list --place second." in said
    assert "set the SPACES_ settings" not in said


def test_a_first_place_that_was_emptied_is_not_said_to_be_whole_in_the_second(
    tmp_path: Path, first: SecondBucket, bucket: SecondBucket
) -> None:
    """A comparison of nothing is no good news."""
    host = two_places(tmp_path / "host", first, bucket)
    write_generation(host.folder, "one")
    host.json("run")
    assert host.cli("copy").returncode == 0
    first.rob()
    done = host.cli("copy", "--check")
    assert done.returncode == 1
    assert "nothing to compare" in done.stdout
