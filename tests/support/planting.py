"""Putting a database of one's own into a set, as someone who has the keys can, or an older version.

What the manifest says of it is true, and the manifest carries a mark of this installation's keys.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from backups.format import naming
from backups.sources.checking.inspection import read_facts
from tests.support.bench import PREFIX, Bench
from tests.support.generations import connect


def plant(
    bench: Bench, set_id: str, source: str, change: Callable[[sqlite3.Connection], object]
) -> Path:
    """Change the database of a source in a set that is stored; the file that is there now.

    No copy of the set is left on this host, so that a restore gets it from the store.
    """
    manifest = bench.manifest_of(set_id)
    (described,) = (one for one in manifest["objects"] if one["source"] == source)
    path = bench.folder / f"planted-{source}.db"
    path.write_bytes(bench.bytes_of(described["key"]))
    with closing(connect(path)) as connection:
        change(connection)
    with closing(connect(path)) as connection:
        facts = read_facts(connection)
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    size = len(content)
    described.update(bytes=size, sha256=digest, snapshot_bytes=size, snapshot_sha256=digest)
    described.update(vars(facts))
    bench.replace_object(described["key"], content)
    key = naming.manifest_key(PREFIX, set_id)
    document = bench.service.config.marks.sign(key, json.dumps(manifest).encode())
    bench.replace_manifest(set_id, document)
    for copy in (bench.directory.path / "copies").glob(set_id):
        shutil.rmtree(copy)
    return path


def script(text: str) -> Callable[[sqlite3.Connection], object]:
    """The change that a script of SQL makes."""
    return lambda connection: connection.executescript(text)


def without_end(table: str, column: str) -> Callable[[sqlite3.Connection], object]:
    """An index whose expression takes SQLite hours to check.

    It is made with an expression that takes no time; then the text in the schema is another one,
    with the same values. A single function of it takes a tenth of a second, for each of 5000 rows.
    """
    quick = f"length({column}) * 0"
    slow = (
        f"instr(printf('%.*c', 60000, 'a') || substr({column}, 1, 1),"
        f" printf('%.*c', 30000, 'a') || 'b' || substr({column}, 1, 1))"
    )

    def change(connection: sqlite3.Connection) -> None:
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        chosen = ", ".join("'r' || n" if one == columns[0] else one for one in columns)
        connection.executescript(
            f"INSERT INTO {table} WITH RECURSIVE c(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM c"
            f" WHERE n < 5000) SELECT {chosen} FROM (SELECT * FROM {table} LIMIT 1), c;"
            f"CREATE INDEX slow ON {table}({quick});"
            "PRAGMA writable_schema=ON"
        )
        connection.execute(
            "UPDATE sqlite_schema SET sql = replace(sql, ?, ?) WHERE name = 'slow'",
            (quick, slow),
        )

    return change
