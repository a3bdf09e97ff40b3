"""A process of a host that sends alerts to URLs, and does what its standard input says.

`step` sends what is owed; `advance SECONDS` moves its clock; `full` makes every write to a file
fail, as on a full disk, and `room` ends that; `die` lets it be killed when it begins to send.
It answers each line with `ok`.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from backups.alerts.notifier import AppriseNotifier
from backups.decisions.alarms import Message
from backups.model import Source
from backups.vocabulary.receivers import Receiver
from shared.store.directory import DirectoryStore
from tests.support.bench import open_bench
from tests.support.clock import FixedClock
from tests.support.warm_python import WarmPopen


class AlertProcess:
    """The process, as the test sees it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def order(self, line: str) -> None:
        """Say what to do, and do not wait for it."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def answer(self) -> None:
        """Wait until the oldest order is carried out."""
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ok\n"

    def do(self, *lines: str) -> None:
        """Say what to do, and wait for each."""
        for line in lines:
            self.order(line)
            self.answer()

    def died_by(self) -> int:
        """Wait for its end; the signal that ended it."""
        return -self._process.wait(timeout=30)


@contextmanager
def alert_process(folder: Path, now: datetime, *urls: str) -> Iterator[AlertProcess]:
    """A process over the bench in `folder` that sends to `urls`; it ends with the block."""
    process = WarmPopen(
        [sys.executable, "-m", "tests.support.alert_process", str(folder), now.isoformat(), *urls],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        process_of_the_test = AlertProcess(process)
        process_of_the_test.answer()
        yield process_of_the_test
    finally:
        process.communicate(timeout=30)


class _Dying(AppriseNotifier):
    """Kills its process when it is to send."""

    dies = False

    def send(self, receiver: Receiver, message: Message) -> bool:
        if self.dies:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().send(receiver, message)


def main(folder: Path, now: str, *urls: str) -> None:
    """Open the bench, and obey."""
    clock = FixedClock(datetime.fromisoformat(now))
    notifier = _Dying(urls, None)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with open_bench(
        folder,
        DirectoryStore(folder / "store"),
        clock=clock,
        notifier=notifier,
        sources=[Source(name, folder / "data" / f"{name}.db") for name in ("tokens", "sessions")],
    ) as bench:
        print("ok", flush=True)
        for line in sys.stdin:
            order, _, number = line.strip().partition(" ")
            if order == "step":
                bench.service.alerts.step()
            elif order == "advance":
                clock.advance(seconds=float(number))
            elif order == "full":
                resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
            elif order == "room":
                resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
            elif order == "die":
                notifier.dies = True
            print("ok", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
