"""Packing the points of the hours that are over, beside whatever else this process does."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress

from backups.errors import RunInterrupted
from backups.increments.keeping.pack import Packing, pack_chain
from backups.service import BackupService
from backups.sets.chains import table
from shared.errors import StoreError
from shared.files import make_private_directory
from shared.process.lasting_work import beat

SECONDS_BETWEEN_LOOKS = 60.0
_MS_AN_HOUR = 3_600_000

_log = logging.getLogger("backups.follow")


class Packer:
    """Packs, once an hour, what is due of the chains of this installation.

    Call `step` in a thread of its own: a store takes its time for thousands of objects. Once
    `ended` is set, it stops between two requests; the next packing goes on from there.
    """

    def __init__(self, service: BackupService, ended: threading.Event) -> None:
        self._service = service
        self._ended = ended
        self._scratch = service.directory.path / "packing" / "packs"
        self._done: tuple[int, frozenset[str]] | None = None

    def step(self) -> float:
        """Pack what is due; the seconds to wait before the next look.

        A store that is away is no failure of this thread: what it has is packed later.
        """
        now = round(self._service.clock.now().timestamp() * 1000)
        instance = self._service.directory.instance()
        with self._service.known.reading() as connection:
            own = {
                one.id: one.end is not None
                for one in table.chains(connection)
                if one.instance == instance and one.head_mark == "valid"
            }
        state = now // _MS_AN_HOUR, frozenset(chain for chain, ended in own.items() if ended)
        if not own or state == self._done:
            return SECONDS_BETWEEN_LOOKS
        self._clear()
        packing = Packing(
            self._service.store,
            self._service.known,
            self._service.config.marks,
            instance,
            self._scratch,
            self._go_on,
        )
        try:
            for chain, ended in own.items():
                pack_chain(packing, chain, now, ended=ended)
        except RunInterrupted:
            return SECONDS_BETWEEN_LOOKS
        except StoreError as error:
            _log.info("what is over is packed later: %s", error.message)
            return SECONDS_BETWEEN_LOOKS
        self._done = state
        return SECONDS_BETWEEN_LOOKS

    def _clear(self) -> None:
        """Remove what a process that died has left."""
        make_private_directory(self._scratch)
        for left in self._scratch.iterdir():
            with suppress(FileNotFoundError):
                left.unlink()

    def _go_on(self) -> None:
        beat()
        if self._ended.is_set():
            raise RunInterrupted("the packing was stopped; the next one goes on from there")
