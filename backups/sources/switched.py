"""Looking whether a source was replaced: by the files, and by what SQLite counts in the header."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from backups.model import Source
from backups.sources.checking.inspection import schema_fingerprint
from backups.sources.live import connect, side_files
from backups.sources.pins import what
from backups.vocabulary.replaced import Replaced, Switch
from shared.databases.translation import translated
from shared.databases.untrusted import open_untrusted
from shared.errors import AppError, DatabaseCorrupt, DatabaseNotSqlite

# What SQLite itself may write anew in the first page: file format versions, change counter, schema
# cookie, version-valid-for, library version (https://www.sqlite.org/fileformat2.html#the_database_header).
_OWN_BYTES = ((18, 20), (24, 28), (40, 44), (92, 100))
_CHUNK = 1024 * 1024


def was_replaced(source: Source, switch: Switch, busy_timeout: float) -> bool | None:
    """Whether what a switch was about to do to its source was done; None: nobody can see it.

    The backup API raises the schema cookie of its target by one, in the transaction of the copy
    (https://www.sqlite.org/src/file/src/backup.c). Another cookie means that the schema was
    changed since then, or that the file is not the same any more. One that is gone or damaged
    counts as replaced: the safety copy is what was there before, either way.
    """
    put_aside = switch.put_aside
    if put_aside.kind == "nothing":
        return source.path.exists()
    if put_aside.kind == "quarantine":
        return is_aside(source.path, put_aside)
    try:
        if not source.path.stat().st_size:
            return True
        with translated(what(source)), closing(connect(source.path, busy_timeout)) as live:
            cookie = int(live.execute("PRAGMA schema_version").fetchone()[0])
            if cookie == switch.schema_version:
                return False
            is_next = switch.schema_version is not None and cookie == switch.schema_version + 1
            return True if is_next and schema_fingerprint(live) == switch.schema else None
    except (FileNotFoundError, DatabaseCorrupt, DatabaseNotSqlite):
        return True
    except (AppError, OSError):
        return None


def schema_version(source: Source, busy_timeout: float) -> int:
    """The schema cookie of a live database, as it is committed now; raises `DatabaseError`."""
    with translated(what(source)), closing(connect(source.path, busy_timeout)) as live:
        return int(live.execute("PRAGMA schema_version").fetchone()[0])


def schema_of(copy: Path) -> str:
    """The fingerprint of the schema of a file that nobody writes."""
    with open_untrusted(copy, str(copy)) as connection:
        return schema_fingerprint(connection)


def is_aside(path: Path, quarantine: Replaced) -> bool:
    """Whether the files of a database were moved to their quarantine.

    A main file that has a name at both places was not: another has not taken its place yet.
    """
    folder = quarantine.path
    if folder is None:
        return False
    if not quarantine.main:
        return any((folder / side.name).exists() for side in side_files(path))
    main = folder / path.name
    return main.exists() and not (path.exists() and main.samefile(path))


def has_same_content(one: Path, other: Path) -> bool:
    """Whether two copies are the same, page by page, but for what SQLite counts in the header."""
    if one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb") as first, other.open("rb") as second:
        head, other_head = bytearray(first.read(100)), bytearray(second.read(100))
        for begin, end in _OWN_BYTES:
            head[begin:end] = other_head[begin:end] = bytes(end - begin)
        if head != other_head:
            return False
        while chunk := first.read(_CHUNK):
            if chunk != second.read(_CHUNK):
                return False
    return True
