"""Whether a file has the schema that our code makes, and the rows of one that only looks so.

A schema is code that runs in the application: a trigger can hand what is written to whoever made
it. So a file that comes from elsewhere is used as it is only where each `CREATE` in it is ours,
letter by letter. Columns and indexes alone (`table_xinfo`, `index_xinfo`) do not show a CHECK, an
ON CONFLICT, or the expressions of an index: where only these are ours, the rows are copied.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from shared.databases.translation import primary_code
from shared.databases.untrusted import with_untrusted
from shared.errors import DatabaseSchemaMismatch
from shared.files import create_private_file
from shared.words import counted

# What SQLite makes by itself, for AUTOINCREMENT and ANALYZE (https://www.sqlite.org/fileformat2.html
# #internal_schema_objects). What calls itself so and has another text is not SQLite's.
_OF_SQLITE = {
    "sqlite_sequence": "CREATE TABLE sqlite_sequence(name,seq)",
    "sqlite_stat1": "CREATE TABLE sqlite_stat1(tbl,idx,stat)",
    "sqlite_stat2": "CREATE TABLE sqlite_stat2(tbl,idx,sampleno,sample)",
    "sqlite_stat3": "CREATE TABLE sqlite_stat3(tbl,idx,neq,nlt,ndlt,sample)",
    "sqlite_stat4": "CREATE TABLE sqlite_stat4(tbl,idx,neq,nlt,ndlt,sample)",
}
# Of the rows that are copied. A token of a platform has a few hundred bytes.
MOST_ROWS = 10_000_000
MOST_BYTES_A_ROW = 1024 * 1024
_MOST_PARTS = 5
_LONGEST_NAME = 60

_Object = tuple[str, str, str, object]
_Column = tuple[object, ...]
_Index = tuple[object, ...]


@dataclass(frozen=True)
class KnownSchema:
    """What our code, of this and of all earlier versions, writes into one of its databases.

    `migrations` are those of `Database`. `opens` opens a copy as the application would, which may
    write to it; it raises `DatabaseError`. `early` are tables, each with its script, that a file
    may have before the migration that makes them.
    """

    migrations: tuple[str, ...]
    opens: Callable[[Path], None]
    early: tuple[tuple[str, str], ...] = ()


def foreign_parts(connection: sqlite3.Connection, known: KnownSchema) -> list[str]:
    """What of the schema of a file is not ours, in words that follow its name; empty if its rows
    may be used.

    Raises `sqlite3.Error`.
    """
    with closing(_made_by(known, connection)) as ours:
        return list(_differences(connection, ours))


def refuse_foreign_schema(
    path: Path, source: str, known: KnownSchema, ask: Callable[[], object]
) -> None:
    """Raise `DatabaseSchemaMismatch` unless the rows of the file of a source may be used."""
    with_untrusted(path, _file_of(source), lambda copy: _refuse(copy, source, known), ask)


def admit(path: Path, source: str, known: KnownSchema, ask: Callable[[], object]) -> bool:
    """Make the file of a source one that our code has made.

    Each `CREATE` in it is ours: it stays. Only its columns and indexes are: its rows are copied
    into a new file, which takes its place; the answer is False then. Anything else raises
    `DatabaseSchemaMismatch`, as do too many or too large rows. What the application would migrate,
    or what was copied, is opened as the application would; of what is of the newest version, that
    would change nothing but the journal mode. Raises `DatabaseError`.
    """
    exact, version = with_untrusted(
        path,
        _file_of(source),
        lambda copy: (_is_ours(copy, source, known), _user_version(copy)),
        ask,
    )
    if not exact:
        beside = path.with_name(f"{path.name}.rows")
        try:
            _copy_rows(path, beside, source, known, ask)
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    if not exact or version < len(known.migrations):
        known.opens(path)
    return exact


def _file_of(source: str) -> str:
    return f"the file of {source}"


def _is_ours(copy: sqlite3.Connection, source: str, known: KnownSchema) -> bool:
    with closing(_made_by(known, copy)) as ours:
        if _user_version(copy) >= 0 and _objects(copy) == _objects(ours):
            return True
    _refuse(copy, source, known)
    return False


def _refuse(copy: sqlite3.Connection, source: str, known: KnownSchema) -> None:
    parts = foreign_parts(copy, known)
    if parts:
        more = f", and {len(parts) - _MOST_PARTS} things more" if len(parts) > _MOST_PARTS else ""
        raise _not_ours(source, ", ".join(parts[:_MOST_PARTS]) + more)


def _made_by(known: KnownSchema, copy: sqlite3.Connection) -> sqlite3.Connection:
    """An empty database as our code makes it, of the version of a copy."""
    made = sqlite3.connect(":memory:", isolation_level=None)
    _migrate(made, known, _user_version(copy), _early(known, copy))
    return made


def _early(known: KnownSchema, copy: sqlite3.Connection) -> list[str]:
    """The scripts of the tables that a copy may have before their migration, and has."""
    there = {name for kind, name, _, _ in _objects(copy) if kind == "table"}
    return [script for table, script in known.early if table in there]


def _migrate(
    made: sqlite3.Connection, known: KnownSchema, version: int, early: Sequence[str]
) -> None:
    # Version 0 is from before versions were counted.
    for script in (*known.migrations[: max(version, 1)], *early):
        for statement in script.split(";"):
            made.execute(statement)


def _user_version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _objects(connection: sqlite3.Connection) -> Counter[_Object]:
    """All that the schema of a file has, but for what SQLite makes by itself."""
    connection.text_factory = _lenient
    return Counter(
        (kind, name, table, sql)
        for kind, name, table, sql in connection.execute(
            "SELECT type, name, tbl_name, sql FROM sqlite_schema"
        )
        if not (kind == "table" and _OF_SQLITE.get(name) == sql)
    )


def _differences(connection: sqlite3.Connection, ours: sqlite3.Connection) -> Iterator[str]:
    expected = {str(name) for kind, name, _, _ in _objects(ours) if kind == "table"}
    found = set()
    for kind, name, table, _ in _objects(connection):
        if kind == "table" and name in expected and not _is_virtual(connection, name):
            found.add(name)
        elif kind == "index" and table in expected:
            continue  # compared below; one too many holds no data, and is not copied
        elif not (kind == "table" and name in _OF_SQLITE):
            yield f"has the {_printable(kind)} {_printable(name)}"
    for table in sorted(expected):
        if table in found:
            yield from _differences_of(table, connection, ours)
        else:
            yield f"lacks the table {table}"


def _differences_of(
    table: str, connection: sqlite3.Connection, ours: sqlite3.Connection
) -> Iterator[str]:
    found, expected = _columns(connection, table), _columns(ours, table)
    for name in found.keys() - expected.keys():
        yield f"has the column {table}.{_printable(name)}"
    for name, declared in expected.items():
        if name not in found:
            yield f"lacks the column {table}.{name}"
        elif found[name] != declared:
            yield f"declares the column {table}.{name} in another way"
    if _indexes(ours, table) - _indexes(connection, table):
        yield f"lacks an index of {table}, or has it in another way"


def _columns(connection: sqlite3.Connection, table: str) -> dict[str, _Column]:
    """Each column with its place, type, NOT NULL, default, place in the key, and whether hidden."""
    return {
        str(name).lower(): (place, str(declared).upper(), *rest)
        for place, name, declared, *rest in connection.execute(
            'SELECT cid, name, type, "notnull", dflt_value, pk, hidden FROM pragma_table_xinfo(?)',
            (table,),
        )
    }


def _indexes(connection: sqlite3.Connection, table: str) -> Counter[_Index]:
    """What each index of a table has, whatever it is called."""
    indexes = connection.execute(
        'SELECT name, "unique", origin, partial FROM pragma_index_list(?)', (table,)
    ).fetchall()
    return Counter(
        (
            *rest,
            *connection.execute(
                'SELECT cid, lower(name), "desc", coll, "key" FROM pragma_index_xinfo(?)', (name,)
            ).fetchall(),
        )
        for name, *rest in indexes
    )


def _is_virtual(connection: sqlite3.Connection, table: str) -> bool:
    """Whether a module has the content of a table: it has no page of its own."""
    found = connection.execute(
        "SELECT 1 FROM sqlite_schema"
        " WHERE type = 'table' AND name = ? AND coalesce(rootpage, 0) = 0",
        (table,),
    )
    return found.fetchone() is not None


def _copy_rows(
    path: Path, beside: Path, source: str, known: KnownSchema, ask: Callable[[], object]
) -> None:
    """The rows of a file in a new one that our migrations make. SQLite copies the values as they
    are stored: a damaged text is no obstacle."""
    beside.unlink(missing_ok=True)
    version, encoding, early = with_untrusted(
        path,
        _file_of(source),
        lambda copy: (
            _user_version(copy),
            str(copy.execute("PRAGMA encoding").fetchone()[0]),
            _early(known, copy),
        ),
        ask,
    )
    create_private_file(beside)

    def copy_into(made: sqlite3.Connection) -> None:
        # The text encoding of a file is that of its first page, and attached ones must have it.
        made.execute(f"PRAGMA encoding='{encoding}'")
        made.execute("PRAGMA journal_mode=OFF")
        made.execute("PRAGMA synchronous=OFF")
        made.execute("ATTACH ? AS staged", (f"{path.absolute().as_uri()}?mode=ro&immutable=1",))
        made.execute("BEGIN")
        _migrate(made, known, version, early)
        made.execute(f"PRAGMA user_version={max(version, 1)}")
        for table in _tables(made):
            _copy_table(made, table, source)
        made.execute("COMMIT")

    with_untrusted(beside, _file_of(source), copy_into, ask, writes=True, longest=MOST_BYTES_A_ROW)


def _copy_table(made: sqlite3.Connection, table: str, source: str) -> None:
    columns = ", ".join(f'"{name}"' for name in _columns(made, table))
    try:
        copied = made.execute(
            f'INSERT INTO main."{table}"({columns})'  # noqa: S608 - names of ours
            f' SELECT {columns} FROM staged."{table}" NOT INDEXED LIMIT {MOST_ROWS + 1}'
        )
    except sqlite3.DataError as error:
        if primary_code(error) != sqlite3.SQLITE_TOOBIG:
            raise
        raise _not_ours(source, f"has a row of more than {MOST_BYTES_A_ROW:,} bytes") from None
    if copied.rowcount > MOST_ROWS:
        raise _not_ours(source, f"has more than {counted(MOST_ROWS, 'row')}")


def _not_ours(source: str, why: str) -> DatabaseSchemaMismatch:
    return DatabaseSchemaMismatch(
        f"{source} is not a database that this program has made: it {why}"
    )


def _tables(made: sqlite3.Connection) -> list[str]:
    return [str(name) for kind, name, _, _ in _objects(made) if kind == "table"]


def _printable(name: object) -> str:
    text = "".join(one if one.isprintable() else "?" for one in str(name))
    return text if len(text) <= _LONGEST_NAME else f"{text[:_LONGEST_NAME]}..."


def _lenient(text: bytes) -> str:
    return text.decode("utf-8", "backslashreplace")
