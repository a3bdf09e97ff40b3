"""Which place a restore takes by itself: what the first has passed over is no newer point."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.backups.second.test_reading import first, generations, two_places  # noqa: F401
from tests.support.app_process import AppProcess
from tests.support.generations import write_generation
from tests.support.installation import Installation, bot_secrets
from tests.support.second import SecondBucket

pytestmark = pytest.mark.slow


@pytest.fixture
def host(tmp_path: Path, first: SecondBucket, bucket: SecondBucket) -> Installation:  # noqa: F811
    """With two sets in both places, `one` and `two`."""
    host = two_places(tmp_path / "host", first, bucket)
    for generation in ("one", "two"):
        write_generation(host.folder, generation)
        host.json("run")
    assert host.cli("copy").returncode == 0
    return host


def ids(host: Installation) -> list[str]:
    """The sets of the first place, the oldest first."""
    return sorted(one["id"] for one in host.json("list", "--place", "first")["sets"])


def test_what_a_restore_has_set_aside_is_not_newer_in_the_second(host: Installation) -> None:
    """Although its copy does not know that yet: what was wrong would come back."""
    one, two = ids(host)
    assert host.cli("restore", one, "--in-place", "--yes").returncode == 0
    plan = host.cli("restore")
    assert "From the second place" not in plan.stderr
    assert f"restore {one} --in-place --yes" in plan.stdout
    assert host.cli("restore", two, "--to", str(host.folder / "to")).returncode == 0


def test_what_a_person_has_deleted_is_not_taken_from_the_second(host: Installation) -> None:
    """Neither by its id nor by its time, although its copy does not know that yet."""
    one, two = ids(host)
    at = host.json("list")["sets"][-1]["created_at"]
    assert host.cli("delete", one, "--confirm", one).returncode == 0
    for asked in ([one], ["--at", at]):
        done = host.cli("restore", *asked)
        assert done.returncode == 1
        assert "From the second place" not in done.stderr
    assert ids(host) == [two]


def test_what_the_first_has_lost_is_taken_from_the_second(
    host: Installation,
    first: SecondBucket,  # noqa: F811
) -> None:
    """It is still listed there, but lacks an object."""
    newest = host.json("list")["sets"][0]
    first.hide(newest["objects"][0]["key"])
    plan = host.cli("restore")
    assert "From the second place" in plan.stderr
    assert f"restore {newest['id']} --place second --in-place --yes" in plan.stdout


def test_an_empty_host_begins_with_the_newer_of_two_places(
    host: Installation,
    tmp_path: Path,
    first: SecondBucket,  # noqa: F811
    bucket: SecondBucket,
) -> None:
    """The first place is back, and has not got what the second took while it was away."""
    newest = host.json("list")["sets"][0]
    manifest = f"backups/sets/{newest['id']}/manifest.json"
    for key in (manifest, *(one["key"] for one in newest["objects"])):
        first.hide(key)
    empty = two_places(tmp_path / "empty", first, bucket)
    empty = empty.with_settings(**bot_secrets(), BACKUP_RESTORE_ON_EMPTY="true")
    with AppProcess.start(empty):
        assert generations(empty.folder) == {"two"}
