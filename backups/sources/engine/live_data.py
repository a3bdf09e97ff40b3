"""`LiveData`: what backups and restores do beside the files of the sources.

With SQLite the files are the live data, and nothing has to be done. With PostgreSQL they are a
copy: made as of one instant before they are looked at, and brought back after they were replaced.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from backups.model import Source
from backups.sources.change_watch import ChangeWatch
from shared.databases.engines.database import Database


class Watch(Protocol):
    """Notices changes: see `ChangeWatch`."""

    def poll(self) -> bool:
        """Whether a source was changed since the last poll."""

    def modified_at(self) -> datetime | None:
        """When the newest change was made, as far as that is known."""

    def close(self) -> None:
        """Stop watching."""


class LiveData(Protocol):
    """Where the live data is. Methods raise `DatabaseError`; call them with the run lease held."""

    is_shared: bool

    def bring_up_to_date(self, *, begin: bool = False) -> datetime | None:
        """Make the files what the live data is now, and say as of when; None if they always are.

        Where there is no data yet, files are made only to `begin` with.
        """

    def replaced(self, run_id: str, sources: Sequence[Source]) -> None:
        """The files of these sources were replaced by this run: so is the live data."""

    def put_back(self, undone: str, run_id: str, sources: Sequence[Source]) -> None:
        """This run has put back what the run `undone` had replaced in the files of these."""

    def watch(self, sources: Sequence[Source]) -> Watch:
        """What notices changes of these."""

    def database(self, source: str, *, fenced: bool = False) -> Database:
        """The tables of a source, or of the inbox, that hosts share; only where `is_shared`.

        What is `fenced` may write only while this process leads.
        """


class Files:
    """The files are the live data."""

    is_shared = False

    def bring_up_to_date(self, *, begin: bool = False) -> datetime | None:  # noqa: ARG002
        """Nothing: they are."""
        return None

    def replaced(self, run_id: str, sources: Sequence[Source]) -> None:
        """Nothing more."""

    def put_back(self, undone: str, run_id: str, sources: Sequence[Source]) -> None:
        """Nothing more."""

    def watch(self, sources: Sequence[Source]) -> Watch:
        """By what SQLite says of the files."""
        return ChangeWatch(sources)

    def database(self, source: str, *, fenced: bool = False) -> Database:  # noqa: ARG002
        """There is none: each storage opens its file."""
        raise RuntimeError(f"{source} is in a file of this host")
