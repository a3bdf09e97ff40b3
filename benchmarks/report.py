"""What a person is shown: a table for each topic, the budgets, and what it was measured on."""

from __future__ import annotations

import io
import os
import platform
import sqlite3

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.budgets import SCRIPTS, Budget, budgets
from benchmarks.contenders.contender import WHOLE
from benchmarks.results import Results
from benchmarks.topics import (
    answers,
    backup,
    bot,
    change,
    cost,
    following,
    points,
    polling,
    presence,
    restore,
    seconds,
    writers,
)

_WIDTH = 120


def host() -> str:
    """The host and the versions that decide about the numbers."""
    return (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs, "
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    )


def report(results: Results) -> str:
    """All of it as text."""
    console = Console(width=_WIDTH, file=io.StringIO(), record=True, color_system=None)
    console.print(f"$ {results.command}", results.host, sep="\n", highlight=False)
    for name, version in results.versions.items():
        console.print(f"{name}: {version}", highlight=False)
    for megabytes in results.sizes(backup.TOPIC):
        console.print(_times(results, backup.TOPIC, megabytes, "Full backup"))
    for megabytes in results.sizes(backup.STAGES):
        console.print(_grid(results, backup.STAGES, megabytes, "Stages of a run of ours"))
    for megabytes in results.sizes(restore.TOPIC):
        console.print(_times(results, restore.TOPIC, megabytes, "Restore"))
    for megabytes in results.sizes(change.TOPIC):
        console.print(
            _times(results, change.TOPIC, megabytes, "Backup after 1% of the rows changed")
        )
    for megabytes in results.sizes(following.TOPIC):
        console.print(_times(results, following.TOPIC, megabytes, "Following every change"))
    for megabytes in results.sizes(seconds.TOPIC):
        console.print(_times(results, seconds.TOPIC, megabytes, "Restore to one second"))
    for topic in (cost.BACKUP, cost.RESTORE):
        for megabytes in results.sizes(topic):
            console.print(_grid(results, topic, megabytes, topic.capitalize()))
    for topic, title in (
        (writers.TOPIC, "Commits of a writer, 200 a second, idle and during a backup (busy)"),
        (answers.TOPIC, "Answers to 200 requests a second"),
    ):
        for megabytes in results.sizes(topic):
            console.print(_grid(results, topic, megabytes, title))
    for topic, title in (
        (presence.TOPIC, "Cost of being there"),
        (points.TOPIC, "With many restore points"),
        (bot.TOPIC, "The bot under load"),
        (polling.TOPIC, "A round of polling"),
    ):
        if results.of(topic):
            console.print(_times(results, topic, 0, title))
    found = budgets(results)
    if found:
        console.print(_budgets(found))
    for note in results.notes:
        console.print(f"Note: {note}", highlight=False)
    lines = console.export_text().splitlines()
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _times(results: Results, topic: str, megabytes: float, title: str) -> Table:
    """A line for each quantity, beside the scripts' of its size if they were measured."""
    scripts = results.find(topic, megabytes, SCRIPTS, WHOLE)
    found = _table(title, megabytes)
    for name in ("who", "what"):
        found.add_column(name)
    for name in ("median", "least", "most", *(("of the scripts",) if scripts else ())):
        found.add_column(name, justify="right")
    for m in results.of(topic, megabytes):
        row = [m.who, m.what, f"{_number(m.median)} {m.unit}", _number(m.least), _number(m.most)]
        if scripts:
            row.append(f"{m.median / scripts.median:.2f}" if m.unit == scripts.unit else "")
        found.add_row(*row)
    return found


def _grid(results: Results, topic: str, megabytes: float, title: str) -> Table:
    """A line for each contender, with all of its quantities."""
    measures = results.of(topic, megabytes)
    whats = list(dict.fromkeys(m.what for m in measures if ": " not in m.what))
    units = {m.what: m.unit for m in measures if m.what in whats}
    same = set(units.values()) if len(set(units.values())) == 1 else set()
    found = _table("".join([title, *(f" ({unit})" for unit in same)]), megabytes)
    found.add_column("who", no_wrap=True)
    for what, unit in units.items():
        found.add_column(f"{what} ({unit})" if unit and not same else what, justify="right")
    for who in dict.fromkeys(m.who for m in measures):
        each = [results.find(topic, megabytes, who, what) for what in whats]
        found.add_row(who, *(_number(m.median) if m else "" for m in each))
    return found


def _budgets(found: list[Budget]) -> Table:
    table = Table(title="Budgets", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("what")
    for name in ("at most", "measured"):
        table.add_column(name, justify="right")
    table.add_column("")
    for one in found:
        limit = "" if one.limit is None else f"{one.limit:g} {one.unit}"
        verdict = "" if one.limit is None else "OK" if one.kept else "over"
        table.add_row(one.name, limit.strip(), f"{one.measured:.2f} {one.unit}".strip(), verdict)
    return table


def _table(title: str, megabytes: float) -> Table:
    size = f", tokens.db {megabytes:g} MB" if megabytes else ""
    return Table(title=f"{title}{size}", title_justify="left", box=box.SIMPLE_HEAD)


def _number(value: float) -> str:
    """Three digits that count, and whole numbers as they are."""
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}".rstrip(".")
