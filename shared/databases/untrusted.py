"""Opening a database file that anybody may have made: bounded, and stopped when asked.

The schema of such a file is code: SQLite evaluates its expressions in a check, and may do so
without end. https://www.sqlite.org/security.html has the precautions for files from elsewhere.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from shared.databases.translation import primary_code, translated

# About a hundredth of a second of SQLite's virtual machine.
_STEPS_BETWEEN_LOOKS = 100_000
# The limits of a value that an expression makes, beside those of the file itself.
_LEAST_LENGTH = 1_000_000
_MOST_LENGTH = 1_000_000_000
_MOST_SQL = 1_000_000
_MOST_PATTERN = 1000


def nobody_asks() -> None:
    """The `ask` of a caller that never stops."""


@contextmanager
def open_untrusted(
    path: Path,
    what: str,
    *,
    ask: Callable[[], object] = nobody_asks,
    writes: bool = False,
    longest: int | None = None,
) -> Iterator[sqlite3.Connection]:
    """A connection in autocommit mode to a file that nobody else writes; raises `DatabaseError`.

    It only reads, unless it `writes`: `immutable=1` keeps SQLite from looking for, or leaving, a
    journal beside the file. `what` names the file in errors. `ask` is called all the time while a
    statement is at work; what it raises, and what a signal raises, ends the statement, and is
    raised from here. No value has more than `longest` bytes, by default twice those of the file.
    """
    raised: list[BaseException] = []
    size = path.stat().st_size if path.exists() else 0
    mode = "mode=rw" if writes else "mode=ro&immutable=1"
    with (
        translated(what),
        closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True, isolation_level=None)
        ) as connection,
    ):
        connection.setlimit(
            sqlite3.SQLITE_LIMIT_LENGTH,
            longest or min(_MOST_LENGTH, max(_LEAST_LENGTH, 2 * size)),
        )
        connection.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, _MOST_SQL)
        connection.setlimit(sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, _MOST_PATTERN)
        connection.set_progress_handler(_watch(ask, raised).__next__, _STEPS_BETWEEN_LOOKS)
        connection.execute("PRAGMA trusted_schema=OFF")
        connection.execute("PRAGMA cell_size_check=ON")
        try:
            yield connection
        except sqlite3.OperationalError as error:
            if raised and primary_code(error) == sqlite3.SQLITE_INTERRUPT:
                raise raised[0] from None
            raise


def _watch(ask: Callable[[], object], raised: list[BaseException]) -> Iterator[int]:
    """What SQLite calls (`__next__`) as it goes on: 0 to go on, 1 to stop.

    sqlite3 drops what its callback raises. Python runs the handlers of signals as soon as it is
    called: in a generator, that is at the `yield`, inside the `try`; in a function, before it.
    """
    while True:
        try:
            yield 1 if raised else 0
            ask()
        except GeneratorExit:
            raise
        except BaseException as error:  # raised again by `open_untrusted`
            raised.append(error)
