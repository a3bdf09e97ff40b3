"""`BACKUP_DIR/heartbeats`: how the threads of the leader are, for every process of this host.

The file always has the same size and is written in place, so that a full disk does not stop it;
on a disk that copies on write (btrfs, zfs), it may. Times are seconds of the monotonic clock,
which all processes of one start of a host share. What is torn, damaged, or from another host or
start is no heartbeat.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from backups.host.machine import boot_id
from backups.model import Beat, Finding
from shared.databases.engines.holder import Holder
from shared.process.lasting_work import Sign

_SIZE = 8192
_DIGEST_CHARACTERS = 64
# Four threads with failures whose every character is written as an escape of six still fit.
_MOST_OF_A_FAILURE = 250
_READS = 3


@dataclass(frozen=True)
class Heartbeat:
    """What the leader wrote last: who it is, how long ago that was, and how its threads were.

    One on another host also says its `findings`: what only its process, or its disk, can tell.
    """

    host: str
    pid: int
    age: timedelta
    beats: tuple[Beat, ...]
    findings: tuple[Finding, ...] = ()


class Heartbeats:
    """The file at `path`."""

    def __init__(
        self,
        path: Path,
        monotonic: Callable[[], float] = time.monotonic,
        boot: Callable[[], str] = boot_id,
    ) -> None:
        self._path = path
        self._monotonic = monotonic
        self._boot = boot

    def write(self, signs: Sequence[Sign]) -> None:
        """Replace what the file says; makes it where it is not there. Raises `OSError`."""
        now = self._monotonic()
        document = {
            "boot": self._boot(),
            "at": now,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "beats": [
                {
                    "name": sign.name,
                    "at": now - sign.age,
                    "most": sign.most,
                    "failure": sign.failure and sign.failure[:_MOST_OF_A_FAILURE],
                    "failing_since": now - sign.failing_for,
                }
                for sign in signs
            ],
        }
        body = json.dumps(document).encode().ljust(_SIZE - _DIGEST_CHARACTERS - 2)
        content = hashlib.sha256(body).hexdigest().encode() + b"\n" + body + b"\n"
        # By its path each time: the folder may have been made anew.
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            os.pwrite(descriptor, content[:_SIZE], 0)
        finally:
            os.close(descriptor)

    def written_at(self) -> datetime | None:
        """When a leader last wrote, by the clock of the disk, in whatever start of the host."""
        try:
            return datetime.fromtimestamp(self._path.stat().st_mtime, UTC)
        except (OSError, OverflowError, ValueError):
            return None

    def read(self) -> Heartbeat | None:
        """What the leader of this start of this host wrote last, or None."""
        for _ in range(_READS):  # one that is written just now is torn only once
            try:
                content = self._path.read_bytes()
            except OSError:
                return None
            digest, _, rest = content.partition(b"\n")
            body = rest[:-1]
            if len(content) == _SIZE and digest == hashlib.sha256(body).hexdigest().encode():
                return self._understand(body)
        return None

    def _understand(self, body: bytes) -> Heartbeat | None:
        try:
            document = json.loads(body)
            if document["boot"] != self._boot():
                return None
            now = self._monotonic()
            return Heartbeat(
                host=str(document["host"]),
                pid=int(document["pid"]),
                age=_ago(now, document["at"]),
                beats=tuple(_beat(now, found) for found in document["beats"]),
            )
        except (ValueError, KeyError, TypeError, OverflowError):
            return None


def _beat(now: float, found: dict[str, Any]) -> Beat:
    failure = found["failure"]
    return Beat(
        name=str(found["name"]),
        age=_ago(now, found["at"]),
        most=timedelta(seconds=float(found["most"])),
        failure=None if failure is None else str(failure),
        failing_for=timedelta(0) if failure is None else _ago(now, found["failing_since"]),
    )


def _ago(now: float, at: float) -> timedelta:
    """Raises `ValueError` for what is no time of this start of the host."""
    if not math.isfinite(at) or at > now + 1:
        raise ValueError("a time of the monotonic clock lies in the future")
    return timedelta(seconds=max(0.0, now - at))


def dump_signs(signs: Sequence[Sign], findings: Sequence[Finding]) -> str:
    """What a leader says of itself in the lease that several hosts share; times are ages, in s."""
    document = {
        "beats": [
            {
                "name": sign.name,
                "age": sign.age,
                "most": sign.most,
                "failure": sign.failure and sign.failure[:_MOST_OF_A_FAILURE],
                "failing_for": sign.failing_for,
            }
            for sign in signs
        ],
        "findings": [vars(finding) for finding in findings],
    }
    return json.dumps(document)


def load_signs(holder: Holder) -> Heartbeat | None:
    """What a leader has told there, which grows older; None for nothing that can be read."""
    try:
        document = json.loads(holder.signs or "")
        beats = [
            Beat(
                name=str(found["name"]),
                age=timedelta(seconds=found["age"]) + holder.signs_age,
                most=timedelta(seconds=found["most"]),
                failure=None if found["failure"] is None else str(found["failure"]),
                failing_for=timedelta(seconds=found["failing_for"]) + holder.signs_age
                if found["failure"]
                else timedelta(),
            )
            for found in document["beats"]
        ]
        findings = [
            Finding(str(one["code"]), str(one["message"]), str(one["hint"]))
            for one in document["findings"]
        ]
    except (ValueError, KeyError, TypeError, OverflowError):
        return None
    return Heartbeat(holder.host, holder.pid, holder.signs_age, tuple(beats), tuple(findings))
