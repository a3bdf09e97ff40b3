"""Ours: a run in the app that serves, and `python -m backups run` as a command."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from backups.seal import generate_key_pair
from benchmarks import measured
from benchmarks.contenders.contender import TO_LAST_PUT, WITH_PROOF, Times
from benchmarks.databases import Pair
from benchmarks.place import REPOSITORY, Place
from benchmarks.serving_app import ServingApp

Sealing = Literal["plain", "zstd", "zstd+age"]
COMMAND = (sys.executable, "-m", "backups")


def sealing_settings(sealing: Sealing, folder: Path) -> dict[str, str]:
    """The settings that seal so; the age identity is a new file in `folder`."""
    if sealing == "plain":
        return {}
    if sealing == "zstd":
        return {"BACKUP_COMPRESSION": "zstd"}
    secret, public = generate_key_pair()
    identity = folder / "identity.txt"
    identity.write_text(secret)
    return {
        "BACKUP_COMPRESSION": "zstd",
        "BACKUP_AGE_RECIPIENTS": public,
        "BACKUP_AGE_IDENTITY_FILE": str(identity),
    }


@dataclass(frozen=True)
class Installed:
    """An installation of ours with a bucket of its own."""

    place: Place
    bucket: str
    settings: Mapping[str, str]

    @classmethod
    def new(cls, place: Place, pair: Pair, sealing: Sealing, **more: str) -> Installed:
        """Its settings and its bucket."""
        bucket = place.new_bucket()
        sealed = sealing_settings(sealing, place.new_folder("keys"))
        return cls(place, bucket, place.settings(pair, bucket, **sealed, **more))


class InApp:
    """Runs inside the serving app."""

    def __init__(self, place: Place, pair: Pair, sealing: Sealing) -> None:
        self.name = f"ours in the app, {sealing}"
        self._installed = Installed.new(place, pair, sealing)
        self.app = ServingApp(self._installed.settings)
        self.app.ask("wait_for_first")

    def backup(self) -> Times:
        """Asked for as the route does it."""
        wait_for_new_second()
        told = self.app.ask("backup")
        return {TO_LAST_PUT: told["to_last_put"], WITH_PROOF: told["whole"]}

    def restore(self, into: Path) -> float:
        """The command beside the app, since a file in a folder is what is wanted."""
        return restore_to(self._installed, into)

    def close(self) -> None:
        """End the app."""
        self.app.close()
        self._installed.place.drop_bucket(self._installed.bucket)


class AsCommand:
    """`python -m backups run`, as cron would start it."""

    def __init__(self, place: Place, pair: Pair, sealing: Sealing) -> None:
        self.name = f"ours as a command, {sealing}"
        self.installed = Installed.new(place, pair, sealing)

    def backup(self) -> Times:
        """Times with the start of the process. It logs a line when it has stored a source."""
        wait_for_new_second()
        began = time.perf_counter()
        process = subprocess.Popen(
            [*COMMAND, "run"],
            cwd=REPOSITORY,
            env=dict(self.installed.settings),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        stored, lines = 0.0, []
        assert process.stderr is not None
        with process:
            for line in process.stderr:
                if ": stored key=" in line:
                    stored = time.perf_counter() - began
                lines.append(line)
            process.wait()
            whole = time.perf_counter() - began
        if process.returncode or not stored:
            raise measured.CommandFailed("".join(lines))
        return {TO_LAST_PUT: stored, WITH_PROOF: whole}

    def restore(self, into: Path) -> float:
        """`python -m backups restore --to`."""
        return restore_to(self.installed, into)

    def close(self) -> None:
        """Forget the bucket."""
        self.installed.place.drop_bucket(self.installed.bucket)


def restore_to(installed: Installed, into: Path) -> float:
    """The seconds of the command, without local copies: from the store."""
    return measured.run(
        [*COMMAND, "restore", "latest", "--to", str(into)], installed.settings, REPOSITORY
    )


def wait_for_new_second() -> None:
    """Sets are named by the second: a run that follows at once would wait for the next one."""
    time.sleep(1 - time.time() % 1)
