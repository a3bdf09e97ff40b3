"""Sources that SQLite cannot wholly check here, or whose index is damaged: stored, and marked."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from backups.model import Source
from backups.view import documents
from tests.support.bench import open_bench
from tests.support.databases import add_rows, connect, make_database, make_sources


def own_collation(path: Path) -> None:
    with closing(connect(path)) as connection:
        connection.create_collation("own", lambda a, b: (a > b) - (a < b))
        connection.execute("CREATE TABLE orders(key TEXT COLLATE own PRIMARY KEY) WITHOUT ROWID")
        connection.execute("INSERT INTO orders VALUES ('one'), ('two')")


def own_function(path: Path) -> None:
    with closing(connect(path)) as connection:
        connection.create_function("own", 1, lambda value: value, deterministic=True)
        connection.execute("CREATE TABLE orders(key TEXT CHECK (own(key) <> ''))")
        connection.execute("CREATE INDEX by_own ON orders(own(key))")
        connection.execute("INSERT INTO orders VALUES ('one'), ('two')")


def latin_1_comment(path: Path) -> None:
    with closing(connect(path)) as connection:
        connection.execute("CREATE TABLE orders(key TEXT /* XXXX */)")
        connection.execute("INSERT INTO orders VALUES ('one'), ('two')")
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute(
            "UPDATE sqlite_schema SET sql = replace(sql, 'XXXX', CAST(X'636166E9' AS TEXT))"
        )


def wrong_index(path: Path) -> None:
    with closing(connect(path)) as connection:
        connection.execute("CREATE TABLE orders(key TEXT)")
        connection.execute("CREATE INDEX by_key ON orders(key)")
        connection.execute("INSERT INTO orders VALUES ('one'), ('two')")
    for condition, row in ((" WHERE key > 'x'", None), ("", "three")):
        with closing(connect(path)) as connection:
            if row:  # a row that the index does not get
                connection.execute("INSERT INTO orders VALUES (?)", (row,))
            connection.execute("PRAGMA writable_schema=ON")
            connection.execute(
                "UPDATE sqlite_schema SET sql = ? WHERE name = 'by_key'",
                (f"CREATE INDEX by_key ON orders(key){condition}",),
            )


def damaged_index(path: Path, page: str = "leaf", name: str = "sqlite_autoindex_orders_1") -> None:
    """Fill a page of a tree with bytes that are no page: of an index, if no other is named."""
    with closing(connect(path)) as connection:
        connection.execute("CREATE TABLE orders(key TEXT PRIMARY KEY, value)")
        connection.executemany(
            "INSERT INTO orders VALUES (?, ?)",
            ((f"key-{number:05}", "x" * 100) for number in range(2000)),
        )
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (number,) = connection.execute(
            "SELECT max(pageno) FROM dbstat WHERE name = ? AND pagetype = ?", (name, page)
        ).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((number - 1) * size)
        file.write(b"\xff" * size)


def damaged_index_root(path: Path) -> None:
    damaged_index(path, "internal")


def damaged_table(path: Path) -> None:
    damaged_index(path, name="orders")


def disordered_table(path: Path) -> None:
    """Exchange the first two rows of a leaf: https://www.sqlite.org/fileformat2.html#b_tree_pages."""
    with closing(connect(path)) as connection:
        connection.execute("CREATE TABLE orders(value)")
        connection.executemany("INSERT INTO orders VALUES (?)", [("one",), ("two",)])
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (root,) = connection.execute("SELECT rootpage FROM sqlite_schema").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((root - 1) * size + 8)
        pointers = file.read(4)
        file.seek(-4, os.SEEK_CUR)
        file.write(pointers[2:] + pointers[:2])


@pytest.mark.parametrize(
    ("make", "proof", "protects", "finding"),
    [
        (own_collation, "sealed", True, "no such collation sequence: own"),
        (own_function, "sealed", True, "unknown function: own()"),
        (latin_1_comment, "full", True, ""),
        (wrong_index, "sealed", False, "index by_key"),
        (damaged_index, "sealed", False, "pages of sqlite_autoindex_orders_1"),
        (damaged_index_root, "sealed", False, "pages of sqlite_autoindex_orders_1"),
    ],
)
def test_a_source_that_sqlite_cannot_confirm_is_stored_and_marked(
    tmp_path: Path, make: Callable[[Path], None], proof: str, protects: bool, finding: str
) -> None:
    """The set is complete and says what was not confirmed, is verified again, and restored."""
    orders = Source("orders", tmp_path / "orders.db")
    make(orders.path)
    with open_bench(tmp_path, sources=(*make_sources(tmp_path / "data"), orders)) as bench:
        made = bench.made()

        assert (made.complete, made.proof, made.protects) == (True, proof, protects)
        found = {stored.source: stored.finding for stored in made.objects}
        assert finding in found["orders"]
        assert bool(found["orders"]) == bool(finding)
        assert found["tokens"] == ""
        if not protects:
            assert made.suspect is not None
            assert "REINDEX" in made.suspect[0]
            assert "orders" in made.suspect[0]
        assert bench.verify(made.id).status == "succeeded"
        assert bench.service.catalogue.get(made.id).proof == proof
        warnings = {one.code: one for one in bench.service.status().health.warnings}
        if finding and protects:
            assert finding in warnings["source_finding"].message
            assert "orders" in warnings["source_finding"].message
        else:
            assert "source_finding" not in warnings
        document = documents.set_document(made)
        shown = {stored["source"]: stored["finding"] for stored in document["objects"]}
        assert shown == found
        bench.restored(made.id, to=tmp_path / "restored")
        assert (tmp_path / "restored" / "orders.db").is_file()


@pytest.mark.parametrize("make", [damaged_table, disordered_table])
def test_a_source_with_a_damaged_table_is_not_stored(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    """A page of a table is no page of an index, also where each row of it can be read: the run
    fails, and the set does not have it."""
    orders = Source("orders", tmp_path / "orders.db")
    make(orders.path)
    with open_bench(tmp_path, sources=(*make_sources(tmp_path / "data"), orders)) as bench:
        run = bench.run()
        assert run.error is not None
        assert run.error.code == "database_corrupt"
        (made,) = bench.service.catalogue.sets()
        assert {stored.source for stored in made.objects} == {"tokens", "sessions"}


def test_retries_do_not_store_the_same_incomplete_set_again(tmp_path: Path) -> None:
    """While a source is missing, unchanged others are stored once; a change is stored."""
    orders = Source("orders", tmp_path / "orders.db")
    with open_bench(tmp_path, sources=(*make_sources(tmp_path / "data"), orders)) as bench:
        first, second = bench.run(), bench.run()

        assert (first.status, second.status) == ("failed", "failed")
        (made,) = bench.service.catalogue.sets()
        assert second.error is not None
        assert made.id in second.error.message
        add_rows(bench.tokens, 3)
        assert bench.run().status == "failed"
        assert len(bench.stored_ids()) == 2


def test_a_source_that_cannot_be_copied_holds_no_change_run_up(tmp_path: Path) -> None:
    """A source that is gone is no reason to wait: the others are stored, and it is named."""
    orders = Source("orders", tmp_path / "orders.db")
    make_database(orders.path, rows=2)
    with open_bench(tmp_path, sources=(*make_sources(tmp_path / "data"), orders)) as bench:
        bench.made()
        assert bench.service.backup.begin_if_changed() is None
        orders.path.unlink()
        add_rows(bench.tokens, 3)

        started = bench.service.backup.begin_if_changed()

        assert started is not None
        run = started.execute()
        assert run.error is not None
        assert run.error.code == "database_missing"
        newest = next(iter(bench.service.catalogue.sets()))
        assert {stored.source for stored in newest.objects} == {"tokens", "sessions"}


@pytest.mark.parametrize(
    ("names", "fault"),
    [(["n" * 1001], "1,001 letters"), ([f"t{number}" for number in range(9001)], "9,001 tables")],
)
def test_a_source_that_no_manifest_describes_does_not_stop_the_others(
    tmp_path: Path, names: list[str], fault: str
) -> None:
    """Too many tables, or too long names, are a fault of that source, with what to do."""
    orders = Source("orders", tmp_path / "orders.db")
    with closing(connect(orders.path)) as connection:
        connection.executescript("".join(f"CREATE TABLE {name}(x);" for name in names))
    with open_bench(tmp_path, sources=(*make_sources(tmp_path / "data"), orders)) as bench:
        run = bench.service.backup.begin().execute()
        assert run.error is not None
        assert run.error.code == "database_schema"
        assert fault in run.error.message
        assert "BACKUP_EXTRA_SOURCES" in run.error.hint
        (made,) = bench.service.catalogue.sets()
        assert [one.source for one in made.objects] == ["tokens", "sessions"]
