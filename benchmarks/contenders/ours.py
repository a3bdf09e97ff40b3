"""Ours: a run in the app that serves, and `./bot backups run` as a command."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from backups.sets.seal import generate_key_pair
from benchmarks import measured
from benchmarks.contenders.contender import TO_LAST_PUT, WITH_PROOF, Command, Times
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
    pair: Pair
    bucket: str
    settings: Mapping[str, str]

    @classmethod
    def new(
        cls, place: Place, pair: Pair, sealing: Sealing, more: Mapping[str, str] | None = None
    ) -> Installed:
        """Its settings, with `more` of them, and its bucket."""
        bucket = place.new_bucket()
        sealed = sealing_settings(sealing, place.new_folder("keys"))
        return cls(place, pair, bucket, place.settings(pair, bucket, {**sealed, **(more or {})}))

    def command(self, *arguments: str) -> Command:
        """A command line of it."""
        own_session = not self.place.yields  # nobody yields to another session
        return Command((*COMMAND, *arguments), self.settings, REPOSITORY, own_session)

    def close(self) -> None:
        """Forget what it has stored, here and there."""
        self.place.drop_bucket(self.bucket)
        shutil.rmtree(self.settings["BACKUP_DIR"])


class InApp:
    """Runs inside the serving app, asked for as the route does it."""

    def __init__(
        self,
        place: Place,
        pair: Pair,
        sealing: Sealing,
        *,
        primed: bool = False,
        more: Mapping[str, str] | None = None,
    ) -> None:
        """With `primed`, a command makes the first backup: the app itself has then made none."""
        self.name = f"ours in the app, {sealing}"
        self.installed = Installed.new(place, pair, sealing, more)
        self.stages: Mapping[str, float] = {}  # of the last run
        if primed:
            self.installed.command("run").run()
        self.app = ServingApp(self.installed.settings)
        try:
            self.app.ask("wait_for_first")
        except BaseException:
            self.close()
            raise

    @property
    def pair(self) -> Pair:
        """See `Contender`."""
        return self.installed.pair

    @property
    def bucket(self) -> str:
        """See `Contender`."""
        return self.installed.bucket

    def prepare(self) -> None:
        """Sets are named by the second: a run that follows at once would wait for the next."""
        wait_for_new_second()

    prepare_again = prepare  # each is a full one

    def backup(self) -> Times:
        """A run."""
        told = self.app.ask("backup")
        self.stages = _durations(told["stages"], told["whole"])
        return {TO_LAST_PUT: told["to_last_put"], WITH_PROOF: told["whole"]}

    def close(self) -> None:
        """End the app."""
        self.app.close()
        self.installed.close()


class AsCommand:
    """`./bot backups run`, as cron would start it."""

    in_go: bool = False

    def __init__(
        self,
        place: Place,
        pair: Pair,
        sealing: Sealing,
        *,
        more: Mapping[str, str] | None = None,
    ) -> None:
        self.name = f"ours as a command, {sealing}"
        self.installed = Installed.new(place, pair, sealing, more)

    @property
    def pair(self) -> Pair:
        """See `Contender`."""
        return self.installed.pair

    @property
    def bucket(self) -> str:
        """See `Contender`."""
        return self.installed.bucket

    def prepare(self) -> None:
        """See `InApp.prepare`."""
        wait_for_new_second()

    prepare_again = prepare

    def backup(self) -> Times:
        """Times with the start of the process. It logs a line when it has stored a source."""
        command = self.backup_command()
        began = time.perf_counter()
        process = subprocess.Popen(
            command.arguments,
            cwd=command.folder,
            env=dict(command.environment),
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

    def backup_command(self) -> Command:
        """`run`."""
        return self.installed.command("run")

    def restore_command(self, into: Path) -> Command:
        """`restore --to`."""
        return self.installed.command("restore", "latest", "--to", str(into))

    def close(self) -> None:
        """Forget the bucket."""
        self.installed.close()


def _durations(entered: Mapping[str, float], whole: float) -> dict[str, float]:
    """The seconds in each stage, of the seconds after which it was entered."""
    ends = [*list(entered.values())[1:], whole]
    return {stage: end - entered[stage] for stage, end in zip(entered, ends, strict=True)}


def wait_for_new_second() -> None:
    """Until the clock shows the next second."""
    time.sleep(1 - time.time() % 1)
