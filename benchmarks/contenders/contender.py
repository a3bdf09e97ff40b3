"""`Contender`: a way to get two databases into a bucket and back, which can be measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks import measured
from benchmarks.databases import Pair

# What a backup's times are called. A contender that proves nothing has only the last.
TO_LAST_PUT = "to the last data PUT"
WITH_PROOF = "with the proof"
WHOLE = "end to end"

Times = Mapping[str, float]


@dataclass(frozen=True)
class Command:
    """What to run, in which environment and where, and whether in a session of its own."""

    arguments: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    own_session: bool = True

    def run(self, patience: float = measured.PATIENCE_SECONDS) -> float:
        """Run it; the seconds with the start of its process. Raises `CommandFailed`."""
        return measured.run(
            self.arguments,
            self.environment,
            self.folder,
            patience,
            own_session=self.own_session,
        )

    def run_watched(self) -> measured.Spent:
        """Run it, and see what it takes; its time then says nothing."""
        return measured.run_watched(self.arguments, self.environment, self.folder)


class Timed(Protocol):
    """What can be timed beside others; it forgets what it stored when it is closed."""

    @property
    def name(self) -> str:
        """What the tables call it."""

    def prepare(self) -> None:
        """Make the next backup a full one; not timed."""

    def backup(self) -> Times:
        """A backup of both databases; seconds by what they are until."""

    def close(self) -> None:
        """Stop and forget all."""


class Contender(Timed, Protocol):
    """One way to get a pair of databases into a bucket."""

    @property
    def pair(self) -> Pair:
        """The databases that it backs up."""

    @property
    def bucket(self) -> str:
        """Where it puts them."""

    def prepare_again(self) -> None:
        """Make the next backup one of what has changed, if it can; not timed."""


class ByCommand(Contender, Protocol):
    """A contender that is a command, whose process tree can be watched."""

    in_go: bool  # then the kernel's count of read and written bytes has the sockets in it

    def backup_command(self) -> Command:
        """What backs both databases up: in full when it was prepared, else as they have changed."""

    def restore_command(self, into: Path) -> Command:
        """What writes both databases of the last backup into an empty folder."""
