"""What the benchmarks make of numbers: budgets, tables, the page and the picture."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.budgets import budgets
from benchmarks.docs import BEGIN, END, write_docs
from benchmarks.picture import draw
from benchmarks.report import report
from benchmarks.results import Results, read_results, write_results
from benchmarks.rounds import rounds
from benchmarks.samples import Sample, percentile, within
from benchmarks.topics.restore import IN_PLACE, NEXT_COMMIT

APP = "ours in the app, plain"


def some_results(*, ours: float = 0.6, scripts: float = 1.0) -> Results:
    """A backup of 100 MB by us and by the scripts."""
    results = Results("python -m benchmarks", "a host", {"aws": "1"})
    for seconds in (scripts, 9.0, scripts):
        results.add("backup", 100, "two shell scripts", "end to end", "s", [seconds])
    results.add("backup", 100, APP, "to the last data PUT", "s", [ours])
    results.add("backup", 100, APP, "with the proof", "s", [2 * ours])
    return results


def test_a_budget_compares_medians_of_one_run() -> None:
    """Ours is held against the scripts' median, and each budget tells its ratio and its limit."""
    kept = {one.name: one for one in budgets(some_results(ours=0.6))}
    name = f"100 MB, {APP}, to the last data PUT: of the scripts' time"
    assert (kept[name].measured, kept[name].limit, kept[name].kept) == (0.6, 0.75, True)
    assert kept[name.replace("to the last data PUT", "with the proof")].limit == 0.55
    broken = {one.name: one for one in budgets(some_results(ours=0.76))}
    assert not broken[name].kept


def test_what_was_not_measured_has_no_budget() -> None:
    """A run of one topic says nothing about the others."""
    assert budgets(Results("c", "h", {})) == []


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    """What was shown once can be shown again from its file."""
    results = some_results()
    results.notes.append("a note")
    write_results(tmp_path / "results.json", results.document())
    assert read_results(tmp_path / "results.json") == results


def test_the_report_shows_who_what_and_the_ratio() -> None:
    """The table has the median, and how much of the scripts' time that is."""
    line = next(one for one in report(some_results()).splitlines() if APP in one)
    assert line.split()[-4:] == ["s", "0.600", "0.600", "0.60"]


def test_the_page_keeps_what_is_around_the_markers(tmp_path: Path) -> None:
    """Writing the page again replaces what was measured, and nothing else."""
    page = tmp_path / "performance.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    for text in ("new", "newer"):
        write_docs(page, text)
    assert page.read_text() == f"before\n{BEGIN}\n\n```text\nnewer\n```\n\n{END}\nafter\n"
    page.write_text("no markers")
    with pytest.raises(ValueError, match="no lines"):
        write_docs(page, "new")


def test_the_picture_shows_ours_beside_the_peers(tmp_path: Path) -> None:
    """The picture is sound SVG, has its numbers, and suits dark pages too."""
    path = tmp_path / "performance.svg"
    assert draw(some_results(), path)
    texts = [element.text for element in ElementTree.parse(path).iter() if element.text]
    assert {APP, "two shell scripts", "0.60 + 0.60", "1.00"} <= {text.strip() for text in texts}
    assert "prefers-color-scheme: dark" in path.read_text()
    assert not draw(Results("c", "h", {}), tmp_path / "none.svg")


def test_everybody_follows_everybody() -> None:
    """Rounds go forwards and backwards, and the warm-up does not count."""
    turns = list(rounds("abc", 2, warm_up=True))
    assert turns == [
        *(("c", False), ("b", False), ("a", False)),
        *(("a", True), ("b", True), ("c", True)),
        *(("c", True), ("b", True), ("a", True)),
    ]


def test_latencies_count_where_they_began() -> None:
    """A wait belongs to the window in which it began, and comes in milliseconds."""
    samples = [Sample(began, 0.001 * began) for began in range(10)]
    assert within(samples, [(2, 4), (8, 9)]) == [2, 3, 8]
    assert percentile(list(range(100)), 0.99) == 99
    assert percentile([7.0], 0.5) == 7.0


def test_what_others_feel_has_budgets_beside_both_stores() -> None:
    """Each way has the same limits, held against its own idle; a bare PUT has none, and is told."""
    results = Results("c", "h", {})
    for number, way in enumerate(("", ", store yields"), 1):
        for who in ("ours in the app, zstd", "a bare PUT, zstd"):
            for what, value in (("p99 idle", 2.0), ("p99 busy", 2.0 * number + 1)):
                results.add("writers", 100, f"{who}{way}", what, "ms", [value])
        results.add("writers", 100, f"ours in the app, zstd{way}", "lock wait max busy", "ms", [11])
        for who, value in (("idle", 4.0), ("run in a thread of the app", 4.0 * number + 1)):
            results.add("answers", 100, f"{who}{way}", "answer p99", "ms", [value])
        results.add("answers", 100, f"a bare PUT, zstd{way}", "answer p99", "ms", [8.0 * number])
    found = {one.name: (one.limit, one.measured, one.kept) for one in budgets(results)}
    commits, lock = "p99 of a commit, of idle", "longest wait for the lock"
    for way, ratio in (("", 1.5), (", store yields", 2.5)):
        assert found[f"writers beside ours in the app, zstd{way}: {commits}"] == (1.2, ratio, False)
        assert found[f"writers beside ours in the app, zstd{way}: {lock}"] == (10, 11, False)
        assert found[f"writers beside a bare PUT, zstd{way}: {commits}"] == (None, ratio, True)
    thread = "answers, run in a thread of the app"
    assert found[f"{thread}: p99, of idle"] == (1.2, 1.25, False)
    assert found[f"{thread}, store yields: p99, of idle"] == (1.2, 2.25, False)
    assert found["answers, a bare PUT, zstd: p99, of idle"] == (None, 2.0, True)
    assert found["answers, a bare PUT, zstd, store yields: p99, of idle"] == (None, 4.0, True)
    of_bare = "p99, of that beside a bare PUT"
    assert found[f"{thread}: {of_bare}"] == (0.8, 0.625, True)
    assert found[f"{thread}, store yields: {of_bare}"] == (0.8, 9 / 16, True)
    assert len(found) == 12


def test_a_restore_and_what_a_run_spends_have_budgets() -> None:
    """A restore is held against the scripts' download; memory, time and requests have limits."""
    results = Results("c", "h", {})
    results.add("restore", 100, "two shell scripts", "end to end", "s", [2.0])
    results.add("restore", 100, "ours as a command, zstd", "end to end", "s", [1.0])
    copies = "ours in the app, zstd, from the copies on this host"
    results.add("restore", 100, copies, IN_PLACE, "s", [0.7])
    results.add("restore", 100, "ours in the app, zstd", NEXT_COMMIT, "ms", [1.0, 11.0])
    results.add("cost of a backup", 100, "ours in the app, plain", "memory above idle", "MiB", [9])
    results.add("cost of a backup", 100, "ours in the app, plain", "requests", "", [7])
    results.add("cost of a backup", 100, "ours as a command, zstd", "processor time", "s", [2.4])
    results.add("cost of a status", 100, "ours as a command, plain", "processor time", "s", [0.3])
    found = {one.name: (one.limit, one.measured, one.kept) for one in budgets(results)}
    assert found == {
        "restore 100 MB, ours as a command, zstd, end to end: of the scripts' time": (
            0.6,
            0.5,
            True,
        ),
        f"restore 100 MB, {copies}, {IN_PLACE}: of the scripts' time": (0.3, 0.35, False),
        f"restore, {NEXT_COMMIT}": (10, 11, False),
        "100 MB, ours in the app, plain: memory above idle": (48, 9, True),
        "100 MB, ours as a command, zstd: processor time of a run": (2.5, 2.4, True),
        "100 MB: processor time of a status": (0.27, 0.3, False),
        "requests to the store of a run that is not the first of its day": (6, 7, False),
    }
