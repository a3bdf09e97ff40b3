"""Processes that keep the bot's own storages open, as the running app does, and use them.

`StorageProcess` does what it is told, line by line. `Hammer` reads or writes without a pause.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from shared.clock import SystemClock
from shared.databases.cipher import TokenCipher
from shared.databases.sessions import SessionStorage
from shared.databases.sqlite import Database
from shared.databases.tokens import MIGRATIONS, TokenStorage
from shared.errors import AppError
from tests.support.installation import TOKEN_ENCRYPTION_KEY, Installation
from tests.support.warm_python import WarmPopen

Role = Literal["read", "write"]
PAIR = ("pair-a", "pair-b")


class StorageProcess:
    """A process with a `TokenStorage` and a `SessionStorage` open, for a `with` block."""

    def __init__(self, installation: Installation) -> None:
        self._process = _start(installation, "obey", "")

    def put(self, key: str) -> str | None:
        """Store a token under `key` and a session of the user `key`; the error's code."""
        return self._tell("put", key)

    def look(self) -> str | None:
        """Read all keys; the error's code."""
        return self._tell("look", "")

    def _tell(self, verb: str, key: str) -> str | None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([verb, key]) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the process that keeps the storages open has died"
        code: str | None = json.loads(answer)
        return code

    def __enter__(self) -> Self:
        _wait_until_ready(self._process)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.communicate(timeout=30)
        assert self._process.returncode == 0


class Hammer:
    """A process that reads or writes until it is stopped; `findings` says what was wrong."""

    def __init__(self, installation: Installation, role: Role, name: str) -> None:
        self.name = name
        self._acknowledged = installation.folder / f"acknowledged-{name}"
        self._process = _start(installation, role, name)

    def wait_until_it_works(self) -> None:
        """Return when it has done its first round."""
        _wait_until_ready(self._process)

    def rounds(self) -> int:
        """How many rounds it has finished, as far as that is known outside."""
        return len(self._acknowledged.read_text().splitlines())

    def stop(self) -> list[str]:
        """End it; what went wrong in it, which should be nothing."""
        output, _ = self._process.communicate(timeout=60)
        assert self._process.returncode == 0, output
        findings: list[str] = json.loads(output.splitlines()[-1])
        return findings

    def acknowledged(self) -> list[tuple[str, str]]:
        """`(key of a token, stored id of a session)` of every round that was acknowledged."""
        lines = self._acknowledged.read_text().splitlines()
        return [(key, session) for key, _, session in (line.partition(" ") for line in lines)]


@contextmanager
def hammering(
    installation: Installation, readers: int = 4, writers: int = 4
) -> Iterator[list[Hammer]]:
    """Readers and writers at work for the length of a block; none may meet anything wrong."""
    roles: list[tuple[Role, str]] = [("read", f"reader-{n}") for n in range(readers)]
    roles += [("write", f"writer-{n}") for n in range(writers)]
    hammers = [Hammer(installation, role, name) for role, name in roles]
    try:
        for hammer in hammers:
            hammer.wait_until_it_works()
        yield hammers
    finally:
        findings = {hammer.name: hammer.stop() for hammer in hammers}
    assert findings == {hammer.name: [] for hammer in hammers}


def _start(installation: Installation, role: str, name: str) -> subprocess.Popen[str]:
    order = {
        "role": role,
        "name": name,
        "tokens": str(installation.tokens_path),
        "sessions": str(installation.sessions_path),
        "acknowledged": str(installation.folder / f"acknowledged-{name}"),
        "key": TOKEN_ENCRYPTION_KEY,
    }
    return WarmPopen(
        [sys.executable, "-m", "tests.support.storage_process", json.dumps(order)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _wait_until_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


def _main(order: dict[str, Any]) -> None:
    with ExitStack() as stack:
        tokens = stack.enter_context(
            closing(TokenStorage(Path(order["tokens"]), TokenCipher((order["key"],))))
        )
        sessions = stack.enter_context(
            closing(SessionStorage(Path(order["sessions"]), SystemClock()))
        )
        pairs = stack.enter_context(closing(Database(Path(order["tokens"]), MIGRATIONS)))
        if order["role"] == "obey":
            _obey(tokens, sessions)
            return
        stopping = threading.Event()
        threading.Thread(target=_stop_with_input, args=(stopping,), daemon=True).start()
        act = (
            _reader(tokens, pairs)
            if order["role"] == "read"
            else _writer(order, tokens, sessions, pairs, stack)
        )
        findings: list[str] = []
        ready = False
        while not stopping.is_set():
            try:
                findings += act()
            except AppError as error:
                findings.append(f"{error.code}: {error.message}")
            if not ready:
                print("ready", flush=True)
                ready = True
            if len(findings) > 5:
                break
        stopping.wait()
        print(json.dumps(findings))


def _obey(tokens: TokenStorage, sessions: SessionStorage) -> None:
    print("ready", flush=True)
    for line in sys.stdin:
        verb, key = json.loads(line)
        code = None
        try:
            if verb == "put":
                tokens.put(key, "written through the app")
                sessions.create(key)
            else:
                tokens.keys()
                sessions.count()
        except AppError as error:
            code = error.code
        print(json.dumps(code), flush=True)


def _reader(tokens: TokenStorage, pairs: Database) -> Callable[[], list[str]]:
    """Each database holds one generation at a time, and the pair's two rows are equal."""

    def read() -> list[str]:
        findings = []
        keys = tokens.keys()
        names = {key.rpartition("-")[0] for key in keys if key.startswith("gen")}
        if len(names) != 1:
            findings.append(f"a reader saw the generations {sorted(names)} at once")
        with pairs.reading() as connection:
            found = [
                connection.execute("SELECT value FROM tokens WHERE key = ?", (key,)).fetchone()
                for key in PAIR
            ]
        if found[0] != found[1]:
            findings.append(f"a reader saw half of a change: {found}")
        return findings

    return read


def _writer(
    order: dict[str, Any],
    tokens: TokenStorage,
    sessions: SessionStorage,
    pairs: Database,
    stack: ExitStack,
) -> Callable[[], list[str]]:
    """Writes a token and a session, then notes both as acknowledged; moves the pair."""
    log = stack.enter_context(Path(order["acknowledged"]).open("w"))  # noqa: SIM115
    number = 0

    def write() -> list[str]:
        nonlocal number
        number += 1
        key = f"ack-{order['name']}-{number:06d}"
        tokens.put(key, "acknowledged")
        session = hashlib.sha256(sessions.create(key).encode()).hexdigest()
        log.write(f"{key} {session}\n")
        log.flush()
        with pairs.transaction() as connection:
            for name in PAIR:
                connection.execute(
                    "INSERT INTO tokens VALUES (?, ?, 'pair') ON CONFLICT(key)"
                    " DO UPDATE SET value = excluded.value",
                    (name, key),
                )
        return []

    return write


def _stop_with_input(stopping: threading.Event) -> None:
    sys.stdin.read()
    stopping.set()


if __name__ == "__main__":
    _main(json.loads(sys.argv[1]))
