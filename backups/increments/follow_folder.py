"""`BACKUP_DIR/follow`: the shadows of the chain that is being written, and what a full hands over.

follow/<chain>/<source>.db      a shadow; of a chain without a state, the snapshot of its full
follow/<chain>/state.json       how far the chain is; written when its head is in the store
follow/<chain>/end.json         the end that the store has yet to get; then nothing else counts
follow/seconds.json             how long the steps took
follow/status.json              how the leader follows, for all processes
follow/work/                    copies that are being compared

A folder is filled under another name and renamed, so one with the name of a chain is whole.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from backups.format.chain_keys import is_chain_id
from backups.host.directory import BackupDirectory, disk_errors
from backups.host.removal import remove_file, remove_folder
from backups.increments.compare import page_size_of
from backups.increments.shadow import Shadow
from backups.vocabulary.following import Following
from shared.adapters import adapter_of
from shared.errors import DiskFull
from shared.files import make_private_directory, open_private, sync_directory

_STATE = "state.json"
_END = "end.json"
_SECONDS = "seconds.json"
_STATUS = "status.json"
_OUTAGES = "outages.json"
_WORK = "work"
_NEW = ".new-"


@dataclass(frozen=True)
class SourceState:
    """One source as the last proven point of a chain has it."""

    page_size: int
    pages: int
    sum: str


@dataclass(frozen=True)
class ChainState:
    """How far a chain is: its last proven number, that object's SHA-256, instant and place."""

    number: int
    prev: str
    instant: int
    sequence: int
    proven_at: int
    sources: dict[str, SourceState]


_STATES = adapter_of(ChainState)
_FOLLOWING = adapter_of(Following)


class FollowFolder:
    """The folder below `BACKUP_DIR`. Raises `DiskFull`, `DirectoryUnusable`."""

    def __init__(self, directory: BackupDirectory) -> None:
        self._directory = directory
        self.path = directory.path / "follow"

    def work(self) -> Path:
        """An empty folder for copies."""
        self._directory.make_missing()
        with disk_errors(self.path):
            folder = self.path / _WORK
            make_private_directory(folder)
            for left in folder.iterdir():
                left.unlink()
        return folder

    def hand_over(self, chain: str, files: Mapping[str, Path]) -> None:
        """Offer the checked snapshots of a full to the follower; older offers are withdrawn."""
        self._directory.make_missing()
        with disk_errors(self.path):
            make_private_directory(self.path)
            beside = self.path / f"{_NEW}{chain}"
            shutil.rmtree(beside, ignore_errors=True)
            beside.mkdir(mode=0o700)
            try:
                for source, file in files.items():
                    with file.open("rb") as old, open_private(beside / f"{source}.db") as new:
                        shutil.copyfileobj(old, new, 1024 * 1024)
            except OSError:
                shutil.rmtree(beside, ignore_errors=True)  # a full disk needs the room
                raise
            shutil.rmtree(self.path / chain, ignore_errors=True)
            beside.rename(self.path / chain)
            for other in self.handed():
                if other < chain:
                    remove_folder(self.path / other, ignore_errors=True)

    def handed(self) -> list[str]:
        """The chains that a full was handed over for, and that have not begun; newest first."""
        return [one for one in self._chains() if not self._has(one, _STATE, _END)]

    def begun(self) -> list[str]:
        """The chains that have begun and not ended, as far as this host knows; newest first."""
        return [
            one for one in self._chains() if self._has(one, _STATE) and not self._has(one, _END)
        ]

    def ended(self) -> list[str]:
        """The chains whose end the store has yet to get."""
        return [one for one in self._chains() if self._has(one, _END)]

    def state(self, chain: str) -> ChainState | None:
        """How far a chain is; None where that cannot be read."""
        try:
            return _STATES.validate_json((self.path / chain / _STATE).read_bytes())
        except (OSError, ValidationError):
            return None

    def set_state(self, chain: str, state: ChainState) -> None:
        """Remember how far a chain is."""
        self._write(self.path / chain / _STATE, json.dumps(asdict(state)).encode())

    def end(self, chain: str) -> bytes:
        """The end of a chain that the store has yet to get."""
        with disk_errors(self.path):
            return (self.path / chain / _END).read_bytes()

    def set_end(self, chain: str, document: bytes) -> None:
        """Nothing follows in a chain; its shadows are of no use any more."""
        with disk_errors(self.path):
            make_private_directory(self.path / chain)
        self._write(self.path / chain / _END, document, durable=True)
        with disk_errors(self.path):
            for left in (self.path / chain).iterdir():
                if left.name != _END:
                    remove_file(left)

    def drop(self, chain: str) -> None:
        """Forget a chain."""
        remove_folder(self.path / chain, ignore_errors=True)

    def shadow(self, chain: str, source: str) -> Shadow:
        """The shadow of a source, open; raises `OSError` where there is none."""
        path = self.path / chain / f"{source}.db"
        with path.open("rb") as file:
            size = page_size_of(file.read(100))
        if not size:
            raise OSError(f"{path} is no database")
        return Shadow(path, size)

    def sources(self, chain: str) -> list[str]:
        """The sources of which a chain has a shadow."""
        with disk_errors(self.path):
            return sorted(path.stem for path in (self.path / chain).glob("*.db"))

    def seconds(self) -> dict[str, Any]:
        """How long the steps took, as `note_seconds` wrote it."""
        try:
            found = json.loads((self.path / _SECONDS).read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def note_seconds(self, document: Mapping[str, Any]) -> None:
        """Write for all processes how long the steps took."""
        self._write(self.path / _SECONDS, json.dumps(document).encode())

    def outages(self) -> list[Any]:
        """When changes were not stored, as `note_outages` wrote it."""
        try:
            found = json.loads((self.path / _OUTAGES).read_bytes())
        except (OSError, ValueError):
            return []
        return found if isinstance(found, list) else []

    def note_outages(self, document: Sequence[Any]) -> None:
        """Write for all processes when changes were not stored."""
        self._write(self.path / _OUTAGES, json.dumps(document).encode())

    def following(self) -> Following | None:
        """How the leader follows; None where nobody has said it."""
        try:
            return _FOLLOWING.validate_json((self.path / _STATUS).read_bytes())
        except (OSError, ValidationError):
            return None

    def note_following(self, following: Following) -> None:
        """Say for all processes how this one follows."""
        path, content = self.path / _STATUS, _FOLLOWING.dump_json(following)
        try:
            self._write(path, content)
        except DiskFull:
            if not path.is_file():
                raise
            with disk_errors(path), path.open("r+b") as file:  # its own block is still there
                file.write(content)
                file.truncate()

    def _chains(self) -> list[str]:
        with disk_errors(self.path):
            if not self.path.is_dir():
                return []
            found = [one.name for one in self.path.iterdir() if is_chain_id(one.name)]
        return sorted(found, reverse=True)

    def _has(self, chain: str, *names: str) -> bool:
        return any((self.path / chain / name).exists() for name in names)

    def _write(self, path: Path, content: bytes, *, durable: bool = False) -> None:
        beside = path.with_name(f"{_NEW}{path.name}")
        with disk_errors(self.path):
            make_private_directory(self.path)
            beside.unlink(missing_ok=True)
            with open_private(beside) as file:
                file.write(content)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            beside.replace(path)
            if durable:
                sync_directory(path.parent)
