"""The host burned down: a new one has `.env` and the store, and types what the bad day says."""

from __future__ import annotations

import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.doc_examples import examples, examples_below
from tests.support.installation import REPOSITORY, Installation, bot_secrets
from tests.support.typed import type_in

pytestmark = pytest.mark.slow

BAD_DAY = REPOSITORY / "docs" / "bad-day.md"
FIRST_COMMAND = examples(BAD_DAY, "sh")[0].splitlines()[0].partition("#")[0].strip()


class Hosts:
    """Hosts that come and go; what stays is the store, and a copy of `.env`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made = 0
        settings = {**bot_secrets(), "BACKUP_LOCAL_STORE": str(folder / "store")}
        self._env = "".join(f"{name}={value}\n" for name, value in settings.items())

    def new(self) -> Installation:
        """A host with nothing but `.env`."""
        self._made += 1
        folder = self._folder / f"host-{self._made}"
        folder.mkdir()
        (folder / ".env").write_text(self._env)
        return Installation(folder)


@pytest.fixture
def hosts(tmp_path: Path) -> Hosts:
    return Hosts(tmp_path)


def follow_the_bad_day(host: Installation) -> None:
    """Type the block for a host that is gone."""
    (block,) = examples_below(BAD_DAY, "The host is gone", "sh")
    done = type_in(host, block)
    assert done.returncode == 0, done.stderr


def burn(host: Installation) -> None:
    shutil.rmtree(host.folder)


def tokens_of(host: Installation) -> int:
    with closing(sqlite3.connect(host.tokens_path)) as connection:
        return int(connection.execute("SELECT count(*) FROM tokens").fetchone()[0])


def instance_of(host: Installation) -> str:
    return (host.folder / "data" / "backups" / "instance").read_text().strip()


def made(host: Installation) -> str:
    """The id of a new set."""
    return str(host.json("run")["set"]["id"])


def first_look(host: Installation, set_id: str) -> None:
    """The first command finds a set, and says whose it is and how old, in its first line."""
    done = type_in(host, FIRST_COMMAND)
    assert done.returncode == 0, done.stderr
    first = done.stdout.splitlines()[0]
    assert set_id in first
    assert re.search(r"\bold, made by host \S+, installation [0-9a-f]{32}$", first)
    assert not host.tokens_path.exists()


def test_an_ordinary_installation(hosts: Hosts) -> None:
    """The newest set is found and restored, and the new host carries the line on."""
    old = hosts.new().make_databases(tokens=31)
    made(old)
    newest = made(old)
    before = instance_of(old)
    burn(old)
    new = hosts.new()

    first_look(new, newest)
    follow_the_bad_day(new)

    assert tokens_of(new) == 31
    assert new.json("status")["healthy"]
    after = made(new)
    assert new.json("status")["newest_restore_point"]["id"] == after
    assert {one["instance"] for one in new.json("list")["sets"]} == {before, instance_of(new)}
    assert "two_writers" not in str(new.json("status"))


def test_one_that_was_itself_restored(hosts: Hosts) -> None:
    """The third host finds the second one's newest set, and prunes for the first one as well."""
    first = hosts.new().make_databases(tokens=31)
    made(first)
    oldest = instance_of(first)
    burn(first)
    second = hosts.new()
    follow_the_bad_day(second)
    newest = made(second)
    burn(second)
    third = hosts.new()

    first_look(third, newest)
    follow_the_bad_day(third)

    assert tokens_of(third) == 31
    status = third.json("status")
    assert status["healthy"]
    assert "earlier_installation" not in {one["code"] for one in status["warnings"]}
    kept = third.json("prune", "--dry-run")["keep"]
    of_first = {one["id"] for one in third.json("list")["sets"] if one["instance"] == oldest}
    assert of_first
    assert not any(
        "made by another installation" in one["reasons"] for one in kept if one["id"] in of_first
    )


def test_one_that_was_restored_and_burned_before_its_first_set(hosts: Hosts) -> None:
    """The set of the first host is what there is, and it is found again."""
    first = hosts.new().make_databases(tokens=31)
    newest = made(first)
    burn(first)
    second = hosts.new()
    follow_the_bad_day(second)
    burn(second)
    third = hosts.new()

    first_look(third, newest)
    follow_the_bad_day(third)

    assert tokens_of(third) == 31


def test_one_beside_a_living_staging(hosts: Hosts) -> None:
    """Nothing is chosen; the line that is printed for production brings production back."""
    production = hosts.new().make_databases(tokens=31)
    made(production)
    staging = hosts.new().make_databases(tokens=4)
    made(staging)
    newest = made(production)
    mine, other = instance_of(production), instance_of(staging)
    burn(production)
    of_staging = made(staging)
    new = hosts.new()

    done = type_in(new, FIRST_COMMAND)

    assert done.returncode == 1
    assert "nothing was chosen" in done.stderr
    assert type_in(new, f"{FIRST_COMMAND} --json").stdout.count('"several_installations"') == 1
    lines = {
        instance: line
        for line, instance in re.findall(
            r"(\./bot backups restore \S+ --in-place --yes) or \./bot backups adopt (\w+)",
            done.stderr,
        )
    }
    assert newest in lines[mine]
    assert of_staging in lines[other]
    assert not new.tokens_path.exists()

    assert type_in(new, lines[mine]).returncode == 0

    assert tokens_of(new) == 31
    after = made(new)
    assert new.json("status", exit_code=3)["newest_restore_point"]["id"] == after
    assert new.json("restore")["set"]["id"] == after
    made(staging)
    assert new.json("restore")["set"]["id"] == after
    assert type_in(staging, FIRST_COMMAND).returncode == 0
    assert tokens_of(staging) == 4


def test_adopting_brings_the_right_one_without_its_id(hosts: Hosts) -> None:
    """After `adopt`, `latest` means the newest set of that installation."""
    production = hosts.new().make_databases(tokens=31)
    newest = made(production)
    staging = hosts.new().make_databases(tokens=4)
    made(staging)
    mine = instance_of(production)
    burn(production)
    made(staging)
    new = hosts.new()

    assert type_in(new, f"./bot backups adopt {mine}").returncode == 0

    assert new.json("restore")["set"]["id"] == newest
    follow_the_bad_day(new)
    assert tokens_of(new) == 31
