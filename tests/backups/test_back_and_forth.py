"""The version before chains on a bucket that has chains, and forward again."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from shared.databases.cipher import TokenCipher
from shared.databases.tokens import TokenStorage
from tests.support.app_process import AppProcess
from tests.support.installation import TOKEN_ENCRYPTION_KEY, Installation, installation_in
from tests.support.waiting import eventually

VERSION_BEFORE = Path(__file__).parents[1] / "support" / "version_before.tar.xz"
CIPHER = TokenCipher((TOKEN_ENCRYPTION_KEY,))
NOTHING = {
    f"BACKUP_KEEP_{name}": "0"
    for name in ("ALL_DAYS", "CHANGES_HOURS", "DAILY", "WEEKLY", "MONTHLY", "YEARLY")
}


class House:
    """An installation whose app made three points of a chain, and both versions of its commands."""

    def __init__(self, folder: Path, version_before: Path) -> None:
        self.bucket = folder / "bucket"
        self.new = installation_in(folder / "host", BACKUP_LOCAL_STORE=str(self.bucket))
        self.before = version_before

    def make_points(self) -> None:
        """Let the app make a set, and three points after it."""
        self.new.make_databases()
        with AppProcess.start(self.new) as app:
            eventually(lambda: self.of_chains("head.json"), "a chain")
            for number in range(1, 4):
                self.write(f"value {number}")
                eventually(partial(self.of_chains, f"{number:010}.inc"), "a point")
            app.terminate()

    def write(self, value: str) -> None:
        """Write one token."""
        with closing(TokenStorage(self.new.tokens_path, CIPHER)) as tokens:
            tokens.put("CHANGED", value)

    def of_chains(self, name: str = "*") -> dict[str, bytes]:
        """What the store has below `chains/`."""
        found = self.bucket.glob(f"backups/chains/**/{name}")
        return {
            str(path.relative_to(self.bucket)): path.read_bytes()
            for path in found
            if path.is_file()
        }

    def sets(self) -> set[str]:
        """The ids of the sets in the store."""
        return {path.parent.name for path in self.bucket.glob("backups/sets/*/manifest.json")}

    def old(self, *arguments: str, **settings: str) -> str:
        """What a command of the version before prints; it must succeed."""
        done = subprocess.run(
            [sys.executable, "-m", "backups", *arguments],
            cwd=self.new.folder,
            env={**self.new.environment, **settings, "PYTHONPATH": str(self.before)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def value_at(self, point: str, to: Path) -> str | None:
        """Restore a point with this version; the token that it has."""
        done = self.new.cli("restore", point, "--to", str(to))
        assert done.returncode == 0, done.stderr
        with closing(TokenStorage(to / "tokens.db", CIPHER)) as tokens:
            return tokens.get("CHANGED")


@pytest.fixture(scope="module")
def version_before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the packages of a version before chains."""
    folder = tmp_path_factory.mktemp("version-before")
    with tarfile.open(VERSION_BEFORE) as archive:
        archive.extractall(folder, filter="data")
    assert not (folder / "backups" / "increments").exists()
    return folder


@pytest.fixture
def house(tmp_path: Path, version_before: Path) -> House:
    found = House(tmp_path, version_before)
    found.make_points()
    return found


def codes(host: Installation) -> list[str]:
    """The codes of what status warns of."""
    status: dict[str, Any] = json.loads(host.cli("status", "--json").stdout)
    return [one["code"] for one in status["warnings"]]


@pytest.mark.slow
def test_the_version_before_leaves_chains_alone_and_all_points_come_back(
    house: House, tmp_path: Path
) -> None:
    """It lists, makes and prunes sets; going forward, each point whose set is there restores."""
    (full,) = house.sets()
    chains = house.of_chains()

    assert full in house.old("list")
    house.old("run")
    house.old("prune")

    assert house.of_chains() == chains
    assert full in house.sets()
    for number in range(1, 4):
        assert house.value_at(f"{full}.{number}", tmp_path / f"to-{number}") == f"value {number}"
    assert "points_without_set" not in codes(house.new)
    with AppProcess.start(house.new) as app:
        house.write("forward again")
        eventually(lambda: house.of_chains("0000000004.inc"), "the chain goes on")
        app.terminate()
    assert house.value_at("latest", tmp_path / "latest") == "forward again"


@pytest.mark.slow
def test_what_the_version_before_has_dropped_is_named(house: House, tmp_path: Path) -> None:
    """It drops the set that points need; they are named until the next prune deletes them."""
    (full,) = house.sets()
    chains = house.of_chains()
    house.old("run")
    house.old("prune", **NOTHING)

    assert full not in house.sets()
    assert house.of_chains() == chains
    assert "points_without_set" in codes(house.new)
    assert full in house.new.cli("status").stdout
    refused = house.new.cli("restore", f"{full}.2", "--to", str(tmp_path / "to"))
    assert refused.returncode != 0
    assert "the set that it is made from is not in the store any more" in refused.stderr
    with AppProcess.start(house.new) as app:
        eventually(
            lambda: house.of_chains("head.json").keys() - chains.keys(),
            "a chain whose set is there",
        )
        house.write("forward again")
        eventually(lambda: house.of_chains("*.inc").keys() - chains.keys(), "a point of it")
        app.terminate()
    assert house.value_at("latest", tmp_path / "latest") == "forward again"
    pruned = house.new.cli("prune")
    assert pruned.returncode == 0, pruned.stderr
    assert not chains.keys() & house.of_chains().keys()
    assert "points_without_set" not in codes(house.new)
