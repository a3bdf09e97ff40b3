"""Opening a database file that anybody may have made: bounded, and stopped when asked.

The schema of such a file is code: SQLite evaluates its expressions in a check, and may do so
without end. https://www.sqlite.org/security.html has the precautions for files from elsewhere.
"""

from __future__ import annotations

import contextvars
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from shared.databases.translation import translated
from shared.threads import start

# The limits of a value that an expression makes, beside those of the file itself.
_LEAST_LENGTH = 1_000_000
_MOST_LENGTH = 1_000_000_000
_MOST_SQL = 1_000_000
_MOST_PATTERN = 1000
_SECONDS_BETWEEN_QUESTIONS = 0.25
_SECONDS_BETWEEN_INTERRUPTS = 0.1
# How long a caller waits for a single function of SQL, which SQLite does not interrupt.
_GRACE_SECONDS = 2.0

_Result = TypeVar("_Result")


@contextmanager
def open_untrusted(
    path: Path, what: str, *, writes: bool = False, longest: int | None = None
) -> Iterator[sqlite3.Connection]:
    """A connection in autocommit mode to a file that nobody else writes; raises `DatabaseError`.

    It only reads, unless it `writes`: `immutable=1` keeps SQLite from looking for, or leaving, a
    journal beside the file. `what` names the file in errors. No value has more than `longest`
    bytes, by default twice those of the file. Statements that may take long: `with_untrusted`.
    """
    mode = "mode=rw" if writes else "mode=ro&immutable=1"
    with (
        translated(what),
        closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True, isolation_level=None)
        ) as connection,
    ):
        if longest is None:
            longest = min(_MOST_LENGTH, max(_LEAST_LENGTH, 2 * path.stat().st_size))
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, longest)
        connection.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, _MOST_SQL)
        connection.setlimit(sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, _MOST_PATTERN)
        connection.execute("PRAGMA trusted_schema=OFF")
        connection.execute("PRAGMA cell_size_check=ON")
        yield connection


def with_untrusted(
    path: Path,
    what: str,
    work: Callable[[sqlite3.Connection], _Result],
    ask: Callable[[], object],
    *,
    writes: bool = False,
    longest: int | None = None,
) -> _Result:
    """What `work` returns of the connection of `open_untrusted`; it runs in a thread of its own.

    Meanwhile `ask` is called four times a second, here. What it raises, and what a signal raises,
    interrupts SQLite and is raised from here. Not a progress handler of SQLite: it is called after
    so many steps, and one step can be a function that takes minutes; it would have to be called
    after each, and takes the interpreter's lock from the bot each time.
    """
    opened: list[sqlite3.Connection] = []
    results: list[_Result] = []
    failures: list[BaseException] = []
    ended = threading.Event()

    def run() -> None:
        try:
            with open_untrusted(path, what, writes=writes, longest=longest) as connection:
                opened.append(connection)
                results.append(work(connection))
        except BaseException as error:  # raised again by the caller's thread
            failures.append(error)
        finally:
            ended.set()

    thread = threading.Thread(
        target=contextvars.copy_context().run, args=(run,), name="untrusted", daemon=True
    )
    try:
        start(thread)
        while not ended.wait(_SECONDS_BETWEEN_QUESTIONS):
            ask()
    except BaseException:
        _interrupt(opened, ended)
        raise
    finally:
        if ended.is_set():  # an interpreter that ends under a thread prints a traceback of it
            thread.join()
    if failures:
        raise failures[0]
    return results[0]


def _interrupt(opened: list[sqlite3.Connection], ended: threading.Event) -> None:
    """End the statement in hand, and those that follow it."""
    for _ in range(int(_GRACE_SECONDS / _SECONDS_BETWEEN_INTERRUPTS)):
        for connection in opened:
            with suppress(sqlite3.ProgrammingError):  # it is closed
                connection.interrupt()
        if ended.wait(_SECONDS_BETWEEN_INTERRUPTS):
            return
