"""How the application sees a copy of one of its databases: can it open it, and read it all?"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from shared.clock import SystemClock
from shared.databases.binding import Row, tally
from shared.databases.cipher import TokenCipher
from shared.databases.engines.database import Database
from shared.databases.requests import MIGRATION, TABLE
from shared.databases.schema import KnownSchema
from shared.databases.sessions import MIGRATIONS as SESSIONS_MIGRATIONS
from shared.databases.sessions import SessionStorage
from shared.databases.sqlite import user_version
from shared.databases.tokens import MIGRATIONS as TOKENS_MIGRATIONS
from shared.databases.tokens import TokenStorage
from shared.databases.untrusted import open_untrusted

# The newest `user_version` of each that this program can open.
TOKENS_VERSION, SESSIONS_VERSION = len(TOKENS_MIGRATIONS), len(SESSIONS_MIGRATIONS)


def check_tokens(place: Path | Database, cipher: TokenCipher) -> tuple[int, int, str]:
    """`(rows, unreadable rows, about them)` of a copy of `tokens.db`, through `TokenStorage`.

    Or of the tables that hosts share.

    The text is empty where all that is wrong is the keys. The copy is opened as the application
    would, which may write to it. Raises `DatabaseError` when that fails.
    """
    with closing(TokenStorage(place, cipher)) as storage:
        return storage.count_readable()


def sample_tokens(path: Path, cipher: TokenCipher) -> tuple[int, int, str]:
    """The same of up to 200 values of a copy of `tokens.db`; writes nothing.

    The sample is the oldest and the newest hundred, so that it costs the same at any size.
    Raises `DatabaseError`; a copy without the table has no values.
    """
    sample = (
        f"SELECT * FROM (SELECT {Row.COLUMNS} FROM tokens ORDER BY rowid LIMIT 100) UNION"  # noqa: S608
        f" SELECT * FROM (SELECT {Row.COLUMNS} FROM tokens ORDER BY rowid DESC LIMIT 100)"
    )
    with open_untrusted(path, str(path)) as copy:
        if not copy.execute("SELECT 1 FROM sqlite_schema WHERE name = 'tokens'").fetchall():
            return 0, 0, ""
        return tally(copy, cipher, user_version(copy), sample).result()


def check_sessions(path: Path) -> tuple[int, int]:
    """`(rows, 0)` of a copy of `sessions.db`, through `SessionStorage`."""
    with closing(SessionStorage(path, SystemClock())) as storage:
        return storage.count(), 0


def known_schemas(keys: tuple[str, ...]) -> tuple[tuple[str, KnownSchema], ...]:
    """What this program writes into its databases, by source; without keys nobody opens tokens."""

    def open_tokens(path: Path) -> None:
        if keys:
            TokenStorage(path, TokenCipher(keys)).close()

    def open_sessions(path: Path) -> None:
        SessionStorage(path, SystemClock()).close()

    return (
        ("tokens", KnownSchema(TOKENS_MIGRATIONS, open_tokens, early=((TABLE, MIGRATION),))),
        ("sessions", KnownSchema(SESSIONS_MIGRATIONS, open_sessions)),
    )
