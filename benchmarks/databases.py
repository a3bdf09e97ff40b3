"""Live databases with realistic rows: Fernet values of the bot's own cipher, in its own schema."""

from __future__ import annotations

import hashlib
import random
import secrets
import sqlite3
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from facebook_integration.pages import facebook_access_token_key, page_uuid_key
from shared.databases import sessions, tokens
from shared.databases.cipher import TokenCipher
from shared.databases.sqlite import Database
from shopify_integration.shops import shopify_access_token_key, user_uuid_key

MEGABYTE = 1024 * 1024
# So many values are really encrypted; larger databases use them again. Between two uses of one
# lie 15 MB, further than any compressor or chunker of the contenders looks back.
_POOL = 50_000
_ROWS_AT_ONCE = 250
_CACHE_KIBIBYTES = 512 * 1024
_SCATTER = 6_180_339  # divisible by neither 2 nor 5: millions of multiples differ in their end


@dataclass(frozen=True)
class Pair:
    """The two live databases of one installation."""

    folder: Path

    @property
    def tokens(self) -> Path:
        """`tokens.db`."""
        return self.folder / "tokens.db"

    @property
    def sessions(self) -> Path:
        """`sessions.db`."""
        return self.folder / "sessions.db"

    @property
    def paths(self) -> tuple[Path, Path]:
        """Both, tokens first."""
        return self.tokens, self.sessions

    @property
    def bytes(self) -> int:
        """The size of both files."""
        return sum(path.stat().st_size for path in self.paths)


class Values:
    """Encrypted values as the bot stores them: access tokens of two platforms, and UUIDs.

    In the form that is not bound to a row, so that a few can be used again.
    """

    def __init__(self, key: str, how_many: int = _POOL) -> None:
        """`how_many` different ones at most; each is encrypted when it is first taken."""
        self._cipher = TokenCipher((key,))
        self._how_many = how_many
        self._pool: list[str] = []
        self._next = count()

    def take(self) -> str:
        """The next value."""
        number = next(self._next) % self._how_many
        if number == len(self._pool):
            plain = (_shopify_token, _facebook_token, _uuid)[number % 3]()
            self._pool.append(self._cipher.encrypt(plain))
        return self._pool[number]

    def renewed(self, former: str) -> str:
        """Another value; where there is one, of the same length, as a renewed token has."""
        other = ""
        for _ in range(self._how_many):
            new = self.take()
            if new != former:
                other = new
                if len(new) == len(former):
                    break
        return other


def make_pair(folder: Path, megabytes: float, values: Values) -> Pair:
    """`tokens.db` of about that size and `sessions.db` of a fifth, but 1 MB at least; new files."""
    folder.mkdir(parents=True)
    pair = Pair(folder)
    for path, migrations in (
        (pair.tokens, tokens.MIGRATIONS),
        (pair.sessions, sessions.MIGRATIONS),
    ):
        Database(path, migrations[:1]).close()
    _grow(pair.tokens, "INSERT INTO tokens VALUES (?, ?, ?)", token_rows(values), megabytes)
    rows = _session_rows()
    _grow(pair.sessions, "INSERT INTO sessions VALUES (?, ?, ?)", rows, max(1, megabytes / 5))
    return pair


def change_rows(pair: Pair, part: float, values: Values) -> int:
    """Give that part of the tokens, spread over the file, new values; how many rows."""
    step = round(1 / part)
    with closing(sqlite3.connect(pair.tokens)) as connection:
        rows = connection.execute("SELECT key, value FROM tokens ORDER BY rowid").fetchall()
        chosen = rows[random.randrange(step) :: step]
        with connection:
            connection.executemany(
                "UPDATE tokens SET value = ? WHERE key = ?",
                ((values.renewed(value), key) for key, value in chosen),
            )
    return len(chosen)


def change_token(pair: Pair, values: Values) -> None:
    """Give one token, any of them, a new value."""
    with closing(sqlite3.connect(pair.tokens)) as connection, connection:
        (rows,) = connection.execute("SELECT max(rowid) FROM tokens").fetchone()
        chosen = random.randrange(rows) + 1
        (former,) = connection.execute(
            "SELECT value FROM tokens WHERE rowid = ?", (chosen,)
        ).fetchone()
        new = values.renewed(former)
        connection.execute("UPDATE tokens SET value = ? WHERE rowid = ?", (new, chosen))


def token_rows(values: Values) -> Iterator[tuple[str, str, str]]:
    """Shops and Pages in turn, each with a token and with the UUID of its user.

    Their names begin at random, so keys come in random order, and end with their own number,
    scattered: no key comes twice, whatever the random numbers are.
    """
    for number in count():
        shop = f"{secrets.token_hex(3)}{number * _SCATTER % 16**6:06x}_myshopify_com"
        page = f"{random.randrange(10**7, 10**8)}{number * _SCATTER % 10**7:07d}"
        yield shopify_access_token_key(shop), values.take(), "token"
        yield facebook_access_token_key(page), values.take(), "token"
        yield user_uuid_key(shop), values.take(), "uuid"
        yield page_uuid_key(page), values.take(), "uuid"


def _session_rows() -> Iterator[tuple[str, str, int]]:
    while True:
        session_id = hashlib.sha256(secrets.token_bytes(32)).hexdigest()
        yield session_id, str(uuid.uuid4()), int(time.time())


def _shopify_token() -> str:
    return f"shpat_{secrets.token_hex(16)}"


def _facebook_token() -> str:
    return f"EAA{secrets.token_urlsafe(150)}"[: random.randrange(180, 200)]


def _uuid() -> str:
    return str(uuid.uuid4())


def _grow(path: Path, insert: str, rows: Iterator[tuple[object, ...]], megabytes: float) -> None:
    with _filling(path) as connection:
        while _bytes(connection) < megabytes * MEGABYTE:
            connection.executemany(insert, (next(rows) for _ in range(_ROWS_AT_ONCE)))


@contextmanager
def _filling(path: Path) -> Iterator[sqlite3.Connection]:
    """One transaction that goes around the WAL, which would be as large as the rows."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=OFF")
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute(f"PRAGMA cache_size=-{_CACHE_KIBIBYTES}")
        connection.execute("BEGIN")
        yield connection
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode=WAL")


def _bytes(connection: sqlite3.Connection) -> int:
    found = connection.execute(
        "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
    )
    return int(found.fetchone()[0])
