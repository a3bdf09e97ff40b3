"""What the page's templates make of runs, plans and messages, rendered without a server."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from backups.decisions.restore_plan import RestorePlan
from backups.page import overview, rendering
from backups.page.rendering import _templates
from backups.view import documents, text, units
from tests.support.bench import Bench, open_bench
from tests.support.clock import FixedClock
from tests.support.records import INSTANT
from tests.support.store_wrappers import WatchedStore


def page(template: str, **context: Any) -> str:
    """A page as somebody sees it who is not logged in."""
    given = {"login": None, "path": "/admin/", "now": INSTANT, **context}
    return _templates.get_template(template).render(**given)


def test_an_undo_is_shown_as_one(bench: Bench) -> None:
    """Text and page say undo; the JSON's `operation` stays `restore`, and so do its stages."""
    bench.made()
    restored = bench.restored()
    undone = bench.undo()
    runs, more = bench.service.list_runs(2)

    assert [run.act for run in runs] == ["undo", "restore"]
    lines = text.runs(runs, more=more).splitlines()
    assert [line.split()[1] for line in lines[1:3]] == ["undo", "restore"]
    assert [documents.run_document(run)["operation"] for run in runs] == ["restore", "restore"]
    shown = page("runs.html", runs=runs, more=False, before=None)
    assert shown.index("<td>undo ") < shown.index("<td>restore ")
    assert bench.service.get_run(undone.id).undo
    assert not bench.service.get_run(restored.id).undo


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        ("no answer", "No answer."),
        ("that's all", "That's all."),
        ("tokens.db is gone", "tokens.db is gone."),
        ("data/tokens.db: no right", "data/tokens.db: no right."),
        ("run-id-1 failed", "run-id-1 failed."),
        ("store_error: no answer", "store_error: no answer."),
        ("a1b2c3 made it", "a1b2c3 made it."),
    ],
)
def test_a_path_or_an_id_gets_no_capital(message: str, sentence: str) -> None:
    """Only a word that begins a message is capitalised: a path would be another one."""
    assert units.sentence(message) == sentence


def test_a_plan_shows_whose_set_it_is(
    tmp_path: Path, bench: Bench, store: WatchedStore, clock: FixedClock
) -> None:
    """The page of a plan names the installation and the host, as the command does."""
    made = bench.made()
    clock.advance(days=3)
    with open_bench(tmp_path / "fresh", store, rows=0, clock=clock) as fresh:
        for source in fresh.sources:
            source.path.unlink()
        plan = fresh.service.restore.plan()
        own = bench.service.restore.plan()

    def shown_of(of: RestorePlan) -> str:
        more = {"place": "first", "has_second": False, "asked": None, "refused": None}
        return page("restore.html", plan=of, login={"form_token": ""}, **more)

    shown = shown_of(plan)
    assert plan.host
    assert f"made by host <strong>{plan.host}</strong>, installation <code>{made.instance}" in shown
    assert "3 days old" in shown
    assert "made by" not in shown_of(own)


def test_an_empty_list_says_what_the_store_has_said(bench: Bench) -> None:
    """Never asked, refused, listed with nothing: only the last one says that there are none."""

    def shown() -> str:
        asked = overview.last_asked(bench.service)
        sets, more = bench.service.list_sets(10)
        return page("sets.html", sets=sets, more=more, before=None, reasons={}, asked=asked)

    never = shown()
    bench.watched.break_at("list", 0)
    bench.service.own_sets.refresh()
    refused = shown()
    bench.watched.mend()
    bench.service.own_sets.refresh()

    assert "has not asked the store" in never
    assert "there was no answer" in refused
    assert "This host knows none." in refused
    assert "There are none yet." in shown()


@pytest.mark.parametrize(
    ("hint", "marked"),
    [
        (
            "Print it: ./bot backups kit. Keep it elsewhere, then: ./bot backups kit --kept",
            ["./bot backups kit", "./bot backups kit --kept"],
        ),
        (
            "./bot backups accept 20261122T010000Z. If rows are lost, do not",
            ["./bot backups accept 20261122T010000Z"],
        ),
        (
            "Restore it: ./bot backups restore --only tokens --in-place --yes when you can",
            ["./bot backups restore --only tokens --in-place --yes"],
        ),
        (
            "./bot backups restore legacy-2025-07-04 --to DIR and look",
            ["./bot backups restore legacy-2025-07-04 --to DIR"],
        ),
        ("Find out why: ./bot backups doctor", ["./bot backups doctor"]),
    ],
)
def test_a_command_in_a_hint_is_marked_without_the_prose_behind_it(
    hint: str, marked: list[str]
) -> None:
    """A code span ends where the command does, and no option is broken in two; the text
    itself is unchanged."""
    shown = str(rendering.commands(hint))
    assert re.findall('<span class="nowrap">(.*?)</span>', shown) == re.findall(r"--\S*\w", hint)
    shown = re.sub("</?span.*?>", "", shown)
    assert re.findall("<code>(.*?)</code>", shown) == marked
    assert shown.replace("<code>", "").replace("</code>", "") == hint


def test_a_table_says_in_few_words_what_keeps_a_set(bench: Bench) -> None:
    """The page of the set has all reasons; the column of the table has the first two, cut short."""
    made = bench.made()
    long = overview.reasons(bench.service)[made.id]
    assert "younger than 7 days" in long
    shown = overview.short_reasons(bench.service)[made.id]
    assert shown.count(",") <= 1
    assert long.startswith(shown.split(", ")[0])
