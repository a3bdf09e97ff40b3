"""Small facts beside the inbox: used login states, accounts to reconnect, the last polling, and
which accounts are to be fetched for the first time."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from shared.clock import Clock, format_utc, parse_utc
from shared.databases.engines.database import Connection, Database
from shared.merchants.inbox import Provider

_LAST_SYNC = "last_sync"
_SYNC_WANTED = "sync_wanted"
_ROUND_NUMBER, _ROUND_BEGAN = "polling_round", "polling_round_began"
_UNAVAILABLE = "unavailable/"
_NOT_BEFORE = "not_before = CASE WHEN not_before < ? THEN ? ELSE not_before END"

# How far the clock of the second place may be ahead, and how long a copying takes.
_OF_OTHER_CLOCKS = timedelta(minutes=15)


@dataclass(frozen=True)
class Reconnect:
    """An account whose token no longer works, why, and since when."""

    reason: str
    since: datetime


@dataclass(frozen=True)
class FirstSync:
    """An account that was connected and is to be fetched; `sequence` names this wish for it."""

    sequence: int
    provider: Provider
    account: str
    attempts: int


@dataclass(frozen=True)
class Round:
    """One polling of everything, which may last across restarts; `began_at` is when it began.

    `turns` has the turn in which each account was last polled, in this round or an earlier one;
    `done` the accounts that this round has polled.
    """

    began_at: datetime
    turns: Mapping[tuple[Provider, str], int]
    done: frozenset[tuple[Provider, str]]


class Marks:
    """These facts in `inbox.db`. Safe from many threads and processes; raises `DatabaseError`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def use_state(self, nonce: str, expires_at: datetime) -> bool:
        """Use a login state up; False when it has been used before."""
        now = int(self._clock.now().timestamp())
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM used_states WHERE expires_at < ?", (now,))
            cursor = connection.execute(
                "INSERT INTO used_states(nonce, expires_at) VALUES (?, ?) ON CONFLICT DO NOTHING",
                (nonce, int(expires_at.timestamp()) + 1),
            )
            return cursor.rowcount == 1

    def mark_reconnect(self, provider: Provider, account: str, reason: str) -> bool:
        """Note that an account has to be connected again; False when that is known."""
        with self._database.transaction() as connection:
            cursor = connection.execute(
                "INSERT INTO reconnects(provider, account, reason, since)"
                " VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (provider, account, reason, format_utc(self._clock.now())),
            )
            return cursor.rowcount == 1

    def clear_reconnect(self, provider: Provider, account: str) -> None:
        """The account works."""
        with self._database.transaction() as connection:
            connection.execute(
                "DELETE FROM reconnects WHERE provider = ? AND account = ?", (provider, account)
            )

    def reconnects(self, provider: Provider) -> dict[str, Reconnect]:
        """The accounts of a platform that have to be connected again."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT account, reason, since FROM reconnects WHERE provider = ?", (provider,)
            ).fetchall()
        return {row[0]: Reconnect(row[1], parse_utc(row[2])) for row in rows}

    def mark_unavailable(self, provider: Provider, account: str, reason: str) -> bool:
        """Note why an account cannot be used, though its token may be good; False when known."""
        with self._database.transaction() as connection:
            cursor = connection.execute(
                "INSERT INTO facts(name, value) VALUES (?, ?) ON CONFLICT DO NOTHING",
                (
                    f"{_UNAVAILABLE}{provider}/{account}",
                    f"{format_utc(self._clock.now())} {reason}",
                ),
            )
            return cursor.rowcount == 1

    def clear_unavailable(self, provider: Provider, account: str) -> None:
        """The account can be used."""
        with self._database.transaction() as connection:
            name = f"{_UNAVAILABLE}{provider}/{account}"
            connection.execute("DELETE FROM facts WHERE name = ?", (name,))

    def unavailable(self, provider: Provider) -> dict[str, Reconnect]:
        """The accounts of a platform that cannot be used, why, and since when."""
        prefix = f"{_UNAVAILABLE}{provider}/"
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT name, value FROM facts WHERE substr(name, 1, ?) = ?", (len(prefix), prefix)
            ).fetchall()
        found = {name.removeprefix(prefix): value.partition(" ") for name, value in rows}
        return {
            account: Reconnect(reason, parse_utc(since))
            for account, (since, _, reason) in found.items()
        }

    def note_forgotten(self, folder: str) -> None:
        """Note that all documents in the folder of an account are to be forgotten, as of now."""
        with self._database.transaction() as connection:
            _set(connection, _forgotten(folder), self._clock.now())

    def was_forgotten(self, folder: str, at: datetime) -> bool:
        """Whether that was noted of a folder since `at`, by the clock of another host."""
        with self._database.reading() as connection:
            forgotten_at = _time(connection, _forgotten(folder))
        return forgotten_at is not None and at <= forgotten_at + _OF_OTHER_CLOCKS

    def last_sync(self) -> datetime | None:
        """When the last polling of everything began."""
        with self._database.reading() as connection:
            return last_sync(connection)

    def note_sync(self, began_at: datetime) -> None:
        """A polling of everything that began then is over; what was asked for before is done."""
        with self._database.transaction() as connection:
            _set(connection, _LAST_SYNC, began_at)
            connection.execute(
                "DELETE FROM facts WHERE name = ? AND value <= ?",
                (_SYNC_WANTED, _padded(began_at)),
            )
            # Of accounts that are no longer connected nothing is kept but until the next round.
            connection.execute(
                "DELETE FROM polled WHERE round <"
                " (SELECT CAST(value AS INTEGER) FROM facts WHERE name = ?)",
                (_ROUND_NUMBER,),
            )
            connection.execute("DELETE FROM facts WHERE name = ?", (_ROUND_BEGAN,))

    def polling_round(self) -> Round:
        """The round that has begun and is not over, also before a restart; else a new one.

        Rounds and turns are counted: no step of the clock passes over an account.
        """
        with self._database.transaction() as connection:
            row = connection.execute(
                "SELECT value FROM facts WHERE name = ?", (_ROUND_NUMBER,)
            ).fetchone()
            number, began_at = int(row[0]) if row else 0, _time(connection, _ROUND_BEGAN)
            if began_at is None:
                number, began_at = number + 1, self._clock.now()
                _set_text(connection, _ROUND_NUMBER, str(number))
                _set(connection, _ROUND_BEGAN, began_at)
            rows = connection.execute(
                "SELECT provider, account, round, turn FROM polled"
            ).fetchall()
        return Round(
            began_at,
            turns={(provider, account): turn for provider, account, _, turn in rows},
            done=frozenset((row[0], row[1]) for row in rows if row[2] == number),
        )

    def note_polled(self, provider: Provider, account: str) -> None:
        """The round that is not over has polled this account, well or not."""
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO polled(provider, account, round, turn)"
                " SELECT ?, ?, CAST(value AS INTEGER),"
                " (SELECT coalesce(max(turn), 0) + 1 FROM polled) FROM facts WHERE name = ?"
                " ON CONFLICT(provider, account)"
                " DO UPDATE SET round = excluded.round, turn = excluded.turn",
                (provider, account, _ROUND_NUMBER),
            )

    def ask_for_sync(self) -> None:
        """Ask whichever process polls to do so now."""
        with self._database.transaction() as connection:
            _set(connection, _SYNC_WANTED, self._clock.now())

    def sync_is_wanted(self) -> bool:
        """Whether somebody asked since the last polling began."""
        with self._database.reading() as connection:
            return _time(connection, _SYNC_WANTED) is not None

    def want_first_sync(self, provider: Provider, account: str) -> None:
        """Have an account fetched now, apart from the others; once more if that is under way."""
        with self._database.transaction() as connection:
            connection.execute(
                "DELETE FROM first_syncs WHERE provider = ? AND account = ?", (provider, account)
            )
            connection.execute(
                "INSERT INTO first_syncs(provider, account) VALUES (?, ?)", (provider, account)
            )

    def owe_sync(self, provider: Provider, account: str, seconds: float) -> None:
        """Have an account fetched apart from the others, and not before `seconds` have passed."""
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO first_syncs(provider, account) VALUES (?, ?) ON CONFLICT DO NOTHING",
                (provider, account),
            )
            connection.execute(
                f"UPDATE first_syncs SET {_NOT_BEFORE} WHERE provider = ? AND account = ?",  # noqa: S608
                (*[self._clock.now().timestamp() + seconds] * 2, provider, account),
            )

    def first_syncs(self) -> list[FirstSync]:
        """The accounts whose first fetching is due, in the order in which they were connected."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT sequence, provider, account, attempts FROM first_syncs"
                " WHERE not_before <= ? ORDER BY sequence",
                (self._clock.now().timestamp(),),
            ).fetchall()
        return [FirstSync(*row) for row in rows]

    def finish_first_sync(self, sequence: int) -> None:
        """This wish was fulfilled, or the account has to be connected again."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM first_syncs WHERE sequence = ?", (sequence,))

    def postpone_first_sync(self, sequence: int, seconds: float) -> None:
        """It failed; try it again in `seconds`, or when `owe_sync` says."""
        with self._database.transaction() as connection:
            connection.execute(
                f"UPDATE first_syncs SET attempts = attempts + 1, {_NOT_BEFORE}"  # noqa: S608
                " WHERE sequence = ?",
                (*[self._clock.now().timestamp() + seconds] * 2, sequence),
            )


def last_sync(connection: Connection) -> datetime | None:
    """When the last polling of everything began; raises as the connection, or `ValueError`."""
    return _time(connection, _LAST_SYNC)


def _forgotten(folder: str) -> str:
    # A hash: of whom is forgotten nothing is kept.
    return f"forgotten {hashlib.sha256(folder.encode()).hexdigest()}"


def _time(connection: Connection, name: str) -> datetime | None:
    row = connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
    return None if row is None else datetime.fromisoformat(row[0])


def _set(connection: Connection, name: str, instant: datetime) -> None:
    _set_text(connection, name, _padded(instant))


def _set_text(connection: Connection, name: str, value: str) -> None:
    connection.execute(
        "INSERT INTO facts(name, value) VALUES (?, ?)"
        " ON CONFLICT(name) DO UPDATE SET value = excluded.value",
        (name, value),
    )


def _padded(instant: datetime) -> str:
    """With all digits, so that texts compare as times do."""
    return instant.astimezone(UTC).isoformat(timespec="microseconds")
