"""An undo brings exactly what was replaced: no write since is lost, nothing else is rolled back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from backups.errors import NothingToUndo
from backups.model import Progress
from backups.sources.quarantine import exchange
from shared.files import sync_directory
from tests.support.bench import Bench, open_bench
from tests.support.generations import (
    SOURCES,
    bring_into,
    connect,
    generation_of,
    generations_in,
)
from tests.support.installation import installation_in
from tests.support.restore_process import Act, run_apart

# More than one step of the backup API each.
ROWS, BYTES_A_ROW = 12, 100_000


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A set with `genset` in the embedded store, and `genlive` in the live databases."""
    with open_bench(tmp_path, settings={}) as bench:
        bench.write("genset", rows=ROWS, bytes_a_row=BYTES_A_ROW)
        bench.made()
        bench.write("genlive", rows=ROWS, bytes_a_row=BYTES_A_ROW)
        yield bench


def fail_at(bench: Bench, act: Act, source: str) -> None:
    """A restore or undo that fails when the first pages of a source are in, before its commit."""

    def fail(progress: Progress) -> None:
        if progress.stage == "install" and progress.source == source:
            raise OSError(5, "the disk has a fault", "staged")

    if act == "restore":
        run = bench.restore(progress=fail)
    else:
        run = bench.service.undo.begin(fail).execute()
    assert run.status == "failed"


def write_since(path: Path, key: str) -> None:
    """A token that is written after a restore."""
    with closing(connect(path)) as connection:
        connection.execute("INSERT INTO tokens SELECT ?, type, value FROM tokens LIMIT 1", (key,))


def test_an_undo_after_a_restore_that_replaced_nothing_changes_nothing(bench: Bench) -> None:
    """Where a restore ended before its commit, there is nothing to undo, whatever came since."""
    fail_at(bench, "restore", "tokens")
    bench.write("genlater")

    with pytest.raises(NothingToUndo):
        bench.service.undo.begin()

    assert bench.generations() == dict.fromkeys(SOURCES, "genlater")


def test_a_restore_that_replaced_nothing_hides_no_earlier_one(bench: Bench) -> None:
    """After it, an undo takes back the restore before it."""
    bench.restored()
    fail_at(bench, "restore", "tokens")

    bench.undo()

    assert bench.generations() == dict.fromkeys(SOURCES, "genlive")


def test_the_same_restore_again_is_undone_to_what_was_before_it(bench: Bench) -> None:
    """What the first attempt did not replace comes back as it was before the second one."""
    fail_at(bench, "restore", "tokens")
    bench.write("genlater")
    bench.restored()

    bench.undo()

    assert bench.generations() == dict.fromkeys(SOURCES, "genlater")


def test_what_was_written_between_two_attempts_comes_back(bench: Bench) -> None:
    """Rows that a database got after the first attempt had replaced it are back after an undo."""
    fail_at(bench, "restore", "sessions")
    assert bench.generations() == {"tokens": "genset", "sessions": "genlive"}
    write_since(bench.tokens, "since-1")
    bench.restored()
    assert bench.generations() == dict.fromkeys(SOURCES, "genset")

    bench.undo()

    assert generations_in(bench.tokens) == {"genset", "since"}
    assert generation_of(bench.sessions) == "genlive"


def test_an_undo_that_did_not_end_puts_nothing_back_twice(bench: Bench) -> None:
    """The next one brings what is left; what was written to the others since then stays."""
    bench.restored()
    fail_at(bench, "undo", "sessions")
    assert bench.generations() == {"tokens": "genlive", "sessions": "genset"}
    write_since(bench.tokens, "since-1")

    bench.undo()

    assert generations_in(bench.tokens) == {"genlive", "since"}
    assert generation_of(bench.sessions) == "genlive"
    bench.undo()  # of both undos
    assert bench.generations() == dict.fromkeys(SOURCES, "genset")


def test_an_undo_that_is_finished_takes_back_what_the_restore_set_aside(tmp_path: Path) -> None:
    """`latest` means the newest set again, also when the undo took two runs."""
    with open_bench(tmp_path, settings={}) as bench:
        bench.write("genset")
        older = bench.made().id
        bench.write("genlive")
        newer = bench.made().id
        bench.restored(older)
        assert bench.service.catalogue.get(newer).set_aside is not None
        fail_at(bench, "undo", "sessions")

        bench.undo()

        assert bench.service.catalogue.get(newer).set_aside is None


@pytest.mark.slow
def test_after_a_kill_around_the_switch_the_file_says_what_was_replaced(tmp_path: Path) -> None:
    """Whether a database was replaced is found by looking at it, not told from the record."""
    with open_bench(tmp_path / "whole", settings={}) as bench:
        _make(bench)
    moments = run_apart(installation_in(tmp_path / "whole"), "restore").moments
    first = next(n for n, name in enumerate(moments) if name.startswith("install tokens"))
    last = next(n for n, name in enumerate(moments) if name.startswith("install sessions"))
    steps = [n for n in range(first, last) if moments[n].startswith(("install", "sqlite3.connect"))]
    found = set()
    for number in (steps[0], steps[1], *steps[2::3], steps[-1]):
        folder = tmp_path / str(number)
        with open_bench(folder, settings={}) as bench:
            _make(bench)
        assert run_apart(installation_in(folder), "restore", kill_at=number).killed
        with open_bench(folder, settings={}) as bench:
            was_replaced = generation_of(bench.tokens) == "genset"
            found.add((was_replaced, bench.facts.switch() is not None))
            write_since(bench.tokens, "since-1")
            if was_replaced:
                bench.undo()
                assert bench.generations() == dict.fromkeys(SOURCES, "genlive"), number
            else:
                with pytest.raises(NothingToUndo):
                    bench.service.undo.begin()
                assert generations_in(bench.tokens) == {"genlive", "since"}, number
    # Killed while the note was all that there was, before and after the switch.
    assert {(False, True), (True, True)} <= found


def _make(bench: Bench) -> None:
    bench.write("genset", rows=ROWS, bytes_a_row=BYTES_A_ROW)
    bench.made()
    bench.write("genlive", rows=ROWS, bytes_a_row=BYTES_A_ROW)


def test_what_nobody_can_see_any_more_is_said(bench: Bench) -> None:
    """With another schema since the end of that run, undo names the copy, and changes nothing."""
    fail_at(bench, "restore", "tokens")
    (copy,) = bench.safety_copies("tokens")
    with closing(connect(bench.tokens)) as connection:
        connection.execute("CREATE TABLE later(x)")

    with pytest.raises(NothingToUndo, match="tokens") as refused:
        bench.service.undo.begin()

    assert str(copy) in refused.value.hint
    with closing(connect(bench.tokens)) as connection:
        connection.execute("DROP TABLE later")
    assert generation_of(bench.tokens) == "genlive"
    bench.restored()  # it does not stand in the way of a restore
    bench.undo()
    assert generation_of(bench.tokens) == "genlive"


def test_a_start_of_the_app_looks_before_it_changes_a_schema(bench: Bench) -> None:
    """After a start nothing is left to be looked at: a migration may come."""
    fail_at(bench, "restore", "tokens")
    assert bench.facts.switch() is not None

    bench.service.restore_on_empty.note_missing()

    assert bench.facts.switch() is None
    with pytest.raises(NothingToUndo, match="has replaced anything"):
        bench.service.undo.begin()


def test_a_record_of_an_earlier_version_is_not_trusted_where_its_run_did_not_end(
    bench: Bench,
) -> None:
    """Such a record names what was about to be replaced: undo says so, and where the copy is."""
    fail_at(bench, "restore", "sessions")
    with bench.records.transaction() as connection:
        (text,) = connection.execute(
            "SELECT value FROM facts WHERE name = 'last_restore'"
        ).fetchone()
        known = {key: json.loads(text)[key] for key in ("run_id", "set_id", "at", "replaced")}
        connection.execute("DELETE FROM facts WHERE name = 'restore_switch'")
        connection.execute(
            "UPDATE facts SET value = ? WHERE name = 'last_restore'", (json.dumps(known),)
        )

    with pytest.raises(NothingToUndo, match="earlier version") as refused:
        bench.service.undo.begin()

    assert str(bench.safety_copies("tokens")[0]) in refused.value.hint


def test_a_database_that_is_made_anew_all_the_time_ends_the_restore(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After three tries the restore fails by name; each file is kept, and none is put back: the
    other process has replaced them."""
    bring_into("corrupt header", bench.tokens)
    damaged = bench.tokens.read_bytes()

    def lose_the_race(folder: Path) -> None:
        sync_directory(folder)
        new = bench.tokens.with_name("new.db")
        new.touch()
        new.rename(bench.tokens)

    with monkeypatch.context() as patch:
        patch.setattr(exchange, "sync_directory", lose_the_race)
        run = bench.restore(only="tokens")

    assert run.error is not None
    assert run.error.code == "target_unusable"
    assert "another process" in run.error.message
    kept = [folder / "tokens.db" for folder in bench.quarantined("tokens")]
    assert [file.read_bytes() for file in kept] == [damaged, b"", b""]
    with pytest.raises(NothingToUndo):
        bench.undo()
    assert bench.tokens.read_bytes() == b""
