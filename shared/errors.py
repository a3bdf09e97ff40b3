"""The root of the error tree, and the errors of settings, databases, keys and stores.

Foreign errors (sqlite3, botocore, cryptography) are translated into these at the edge of
the module that met them; nothing above it names a foreign error class.
"""

from __future__ import annotations

from shared.words import counted


class AppError(Exception):
    """An error that a person or a script can act on.

    `code` is stable and in the field's words (scripts match on it), `message` says what
    happened to which object, `hint` says what to do next. None of them ever holds a secret.
    """

    code = "error"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def particulars(self) -> dict[str, object]:
        """What a problem document says besides: names and values of this one error."""
        return {}


class SettingsError(AppError):
    """One or more settings are missing or malformed; `faults` has one line for each."""

    code = "settings"

    def __init__(self, faults: tuple[str, ...]) -> None:
        lines = "".join(f"\n  {fault}" for fault in faults)
        super().__init__(
            f"{counted(len(faults), 'setting')} cannot be used:{lines}",
            "Correct them in the environment or in .env, then start again.",
        )
        self.faults = faults


class AddressUnusable(AppError):
    """The app cannot listen at `HOST` and `PORT` now; it may later."""

    code = "address_unusable"


# --- SQLite files -----------------------------------------------------------------------


class DatabaseError(AppError):
    """SQLite refused an operation on a file for a reason not named below."""

    code = "database_error"


class DatabaseMissing(DatabaseError):
    """There is no file at the path."""

    code = "database_missing"


class DatabaseEmpty(DatabaseError):
    """The file has no bytes: it was created or truncated, but never written by SQLite."""

    code = "database_empty"


class DatabaseNotSqlite(DatabaseError):
    """The bytes at the path are not a SQLite database."""

    code = "database_not_sqlite"


class DatabaseCorrupt(DatabaseError):
    """The file is a SQLite database whose structure is damaged."""

    code = "database_corrupt"


class DatabaseLocked(DatabaseError):
    """Another connection held the lock for longer than the busy timeout."""

    code = "database_locked"


class DatabaseUnreadable(DatabaseError):
    """The operating system does not let us open or write the file."""

    code = "database_unreadable"


class DatabaseSchemaMismatch(DatabaseError):
    """The file's schema version is newer than this program, or its tables are not ours."""

    code = "database_schema"


class DatabaseUnreachable(DatabaseError):
    """The database server does not answer, refuses the connection, or has no connection free."""

    code = "database_unreachable"


class HostLeaving(AppError):
    """This process was asked to end, and serves for some seconds more: `SHUTDOWN_DELAY`."""

    code = "host_leaving"


class LeadershipLost(DatabaseError):
    """This process led, and another one does now: what it still wanted to write was refused."""

    code = "leadership_lost"


class DatabaseRefused(DatabaseError):
    """The database server is one that the app must not use as it is; the message says why."""

    code = "database_refused"


class DatabaseDiskFault(DatabaseError):
    """The disk does not return what the file holds: an input/output error of a read."""


class DiskFull(DatabaseError):
    """There is no room left on the disk that holds the file."""

    code = "disk_full"


# --- keys -------------------------------------------------------------------------------


class CipherError(AppError):
    """A stored value cannot be decrypted with any of today's keys."""

    code = "decryption_failed"


class ValueUnreadable(CipherError):
    """A stored value decrypts, and is not the value of its row, or not what the row has to hold."""

    code = "unreadable"


# --- object stores ----------------------------------------------------------------------


class StoreError(AppError):
    """The object store failed in a way not named below."""

    code = "store_error"


class StoreUnreachable(StoreError):
    """No answer: refused, timed out, cut off, or no such host."""

    code = "store_unreachable"


class StoreUntrusted(StoreError):
    """The server's TLS certificate could not be verified."""

    code = "store_tls"


class StoreUnknownKey(StoreError):
    """The access key is not known to the server, or has expired."""

    code = "store_unknown_key"


class StoreWrongSecret(StoreError):
    """The access key is known, and the secret does not fit it."""

    code = "store_wrong_secret"


class StoreAccessDenied(StoreError):
    """The key is valid and has no right to this bucket or action."""

    code = "store_access_denied"


class ObjectArchived(StoreAccessDenied):
    """A lifecycle rule moved the object to an archive, from which it cannot be read at once."""

    code = "object_archived"


class StoreFull(StoreError):
    """The quota or the disk of the store is used up."""

    code = "store_full"


class StoreSuspended(StoreError):
    """The provider has suspended the account."""

    code = "store_suspended"


class StoreNotS3(StoreError):
    """What answers is not an S3 server: a console, a captive portal, a proxy."""

    code = "store_not_s3"


class StoreNoBucket(StoreError):
    """The bucket does not exist at this endpoint."""

    code = "store_no_bucket"


class StoreClockSkew(StoreError):
    """The server refused the request because this host's clock is off."""

    code = "store_clock_skew"


class StoreFailing(StoreError):
    """The server answered 5xx or asked to slow down, also after the retries."""

    code = "store_failing"


class StoreListingIncomplete(StoreError):
    """A listing lacked an object that the store has when it is asked for it by name."""

    code = "store_listing_incomplete"


class StoreCannotLock(StoreError):
    """The bucket cannot lock objects."""

    code = "store_cannot_lock"


class StoreOverwrites(StoreError):
    """The server ignores or refuses `If-None-Match: *`, so it cannot keep what it holds."""

    code = "store_overwrites"


class ObjectMissing(StoreError):
    """There is no object with this key."""

    code = "object_missing"


class ObjectTooLarge(StoreError):
    """An object has more bytes than it may have, or than it is said to have."""

    code = "object_too_large"


class ObjectExists(StoreError):
    """An object with this key exists and is not the one that was being put."""

    code = "object_exists"
