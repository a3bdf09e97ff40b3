"""The errors of psycopg as errors of our tree, by SQLSTATE.

A server's DETAIL quotes values of rows: nothing of its text is in ours, and its error is no cause.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from shared.errors import (
    DatabaseCorrupt,
    DatabaseError,
    DatabaseLocked,
    DatabaseSchemaMismatch,
    DatabaseUnreachable,
    DatabaseUnreadable,
    DiskFull,
)

_WAIT = "Look at the server, and at the network between. The app goes on by itself afterwards."
# By the five characters of https://www.postgresql.org/docs/current/errcodes-appendix.html, or by
# the two of their class: our class, what happened, what to do.
_TRANSLATION: dict[str, tuple[type[DatabaseError], str, str]] = {
    "08": (DatabaseUnreachable, "does not answer", _WAIT),
    "08P01": (
        DatabaseUnreachable,
        "is behind a pooler that does not pass our options on",
        "Let DATABASE_URL name the direct port of the server, not that of PgBouncer.",
    ),
    "25006": (
        DatabaseUnreachable,
        "can only be read: it is a standby",
        "Let DATABASE_URL name the primary server (target_session_attrs=read-write).",
    ),
    "25P03": (DatabaseUnreachable, "ended a transaction that stood still", "Try again."),
    "28": (
        DatabaseUnreachable,
        "refuses this user or password",
        "Check the user and the password in DATABASE_URL.",
    ),
    "3D": (
        DatabaseUnreachable,
        "does not exist on that server",
        "Create it, or correct the name at the end of DATABASE_URL.",
    ),
    "3F": (
        DatabaseSchemaMismatch,
        "lacks our tables",
        "Check DATABASE_URL, then restart the app.",
    ),
    "40": (DatabaseLocked, "ended this transaction in favour of another one", "Try again."),
    "42501": (
        DatabaseUnreadable,
        "does not give this user the rights that the app needs",
        "GRANT CREATE ON DATABASE to the user of DATABASE_URL, or make it the owner.",
    ),
    "42P01": (
        DatabaseSchemaMismatch,
        "lacks a table of ours",
        "Restore it: ./bot backups restore latest --in-place --yes",
    ),
    "42703": (
        DatabaseSchemaMismatch,
        "lacks a column of ours",
        "Start the version of this program that wrote it.",
    ),
    "53100": (
        DiskFull,
        "cannot grow: the server's disk is full",
        "Make room on the server's disk.",
    ),
    "53300": (
        DatabaseUnreachable,
        "has no connection left",
        "Raise max_connections of the server, or end other programs that use it.",
    ),
    "55P03": (
        DatabaseLocked,
        "is locked by another transaction for longer than we wait",
        "Find the session that keeps it (pg_stat_activity), and end it.",
    ),
    "57014": (DatabaseLocked, "took longer than the statement timeout", "Try again."),
    "57P": (DatabaseUnreachable, "is stopping or starting", _WAIT),
    "58": (DatabaseError, "has an input/output error", "Look at the server's disk and log."),
    "XX001": (DatabaseCorrupt, "is damaged", "Stop the app, and restore the newest proven backup."),
    "XX002": (DatabaseCorrupt, "has a damaged index", "Run REINDEX on the server."),
}


def translate(error: psycopg.Error, what: str) -> DatabaseError:
    """The error of our tree for one of psycopg's; `what` names the database for a person."""
    state = error.sqlstate
    if state is None and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        # libpq itself: no server, or a connection that ended.
        return DatabaseUnreachable(f"{what} does not answer", _WAIT)
    if state is None:
        return DatabaseError(f"{what}: the driver reports {type(error).__name__}", _WAIT)
    for length in (5, 3, 2):
        if (entry := _TRANSLATION.get(state[:length])) is not None:
            kind, happened, hint = entry
            return kind(f"{what} {happened}", hint)
    return DatabaseError(
        f"{what}: the server answered SQLSTATE {state}",
        "See postgresql.org/docs/current/errcodes-appendix.html, and the server's log.",
    )


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Raise `DatabaseError` or a subclass in place of any `psycopg.Error`."""
    try:
        yield
    except psycopg.Error as error:
        raise translate(error, what) from None
