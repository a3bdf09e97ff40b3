"""A restore as text for a terminal: its plan, what it did, and what an undo would do. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from backups.decisions.restore_plan import IN_PLACE, TO_FOLDER, RestoreItem, RestorePlan
from backups.format.chain_keys import set_of
from backups.model import Run
from backups.view import units
from backups.view.text import findings, rows_of
from backups.vocabulary.comparison import Comparison, TableDifference
from backups.vocabulary.replaced import RestoreRecord
from shared.clock import format_utc
from shared.words import counted


@dataclass(frozen=True)
class Afterwards:
    """How it is after a restore in place.

    `rows` are those of each live database now, None where that cannot be read; `app` is the process
    that schedules the backups, `kept` says whether anything was replaced, and `next_run_at` when a
    backup is made next where no app runs.
    """

    rows: Mapping[str, Mapping[str, int] | None]
    app: tuple[str, int] | None
    kept: bool
    next_run_at: datetime


def plan(found: RestorePlan, *, to: Path | None, ask: bool) -> str:
    """What a restore would do."""
    one = found.backup_set
    lines = []
    if found.forged_since is not None:
        lines.append(
            f"NOT MADE BY THE INSTALLATION THAT IT NAMES: {one.instance} marks its sets since "
            f"{format_utc(found.forged_since)}, and this one has no mark."
        )
    lines += [
        f"Restore point {one.id}{_from(found)} ({one.kind}, proof {one.proof}, "
        f"{units.mark_of(one)}), {format_utc(one.created_at)}, {units.old(found.age)}"
        + _made_by(found)
    ]
    if one.point is not None:
        set_id = set_of(one.point.chain)
        lines.append(
            f"  It is point {one.point.number:,} of {one.point.last:,} after set {set_id}: the "
            "files of that set, with all changes up to it. Rows and bytes are those of the set:"
        )
    lines += _outlook(found)
    for item in found.items:
        stored, live = item.stored, item.live
        rows = rows_of(stored.rows) if stored.described else "rows unknown until it is read"
        lines.append(
            f"  {stored.source}: {rows}; {stored.bytes:,} bytes in {item.file or stored.key}"
        )
        if to is None:
            now = rows_of(live.rows) if live.rows is not None else live.state
            fault = f"\n    {live.fault.message}" if live.fault else ""
            lines.append(f"    {live.path} now: {now}{fault}")
            lines += [f"    {line}" for line in compared(item)]
            lines.append(f"    -> {item.action}")
        else:
            lines.append(f"    -> {to / stored.source}.db")
    lines += findings("blocked", found.blocking(in_place=to is None))
    lines += findings("warning", found.warnings)
    if ask and not found.blockers:
        lines.append(
            "Nothing was changed. To do it:\n"
            f"  {found.command(IN_PLACE)}\n"
            f"  {found.command(TO_FOLDER)}"
        )
    return "\n".join(lines)


def compared(item: RestoreItem) -> list[str]:
    """What the restore of a source does to its rows, a line for each change."""
    comparison = item.comparison
    if comparison is None:
        return []
    if comparison.why_not:
        how = "not compared" if item.live.state == "healthy" else "cannot be compared"
        return [f"{how}: {comparison.why_not}"]
    return list(_changes(comparison)) or ["the live data has the same rows"]


def _changes(comparison: Comparison) -> Iterator[str]:
    for table in comparison.differing:
        newest = f"; the newest is from {format_utc(table.newest_at)}" if table.newest_at else ""
        if table.only_live:
            yield f"LOST: {_of(table.only_live, table)}, only in the live data{newest}"
        if table.changed:
            since = "" if table.only_live else newest
            yield f"set back: {_of(table.changed, table)}, changed since then{since}"
        if table.only_stored:
            yield f"back: {_of(table.only_stored, table)}, only in the restore point"


def _of(count: int, table: TableDifference) -> str:
    return f"{counted(count, 'row')} of {table.table}"


def _from(found: RestorePlan) -> str:
    return f" from {found.from_path}" if found.from_path else ""


def _outlook(found: RestorePlan) -> Iterator[str]:
    if found.place:
        copies = ", with copies on this host" if found.has_copies else ""
        yield f"  From {found.place}{copies}" + duration_of(found)
    for one in found.passed_over:
        yield f"  Newer: {one.id}, {format_utc(one.created_at)}: {one.why}"


def duration_of(found: RestorePlan) -> str:
    """How long it takes, as the end of a line."""
    if found.estimate is None:
        return ""
    how = "the last drill" if found.estimate.basis == "drill" else "its size; no drill measured it"
    return f"; takes about {units.duration(max(found.estimate.seconds, 0.1))} (by {how})"


def _made_by(found: RestorePlan) -> str:
    host = f"host {found.host}, " if found.host else ""
    if found.made_elsewhere:
        return f", made by {host}installation {found.backup_set.instance}"
    return f", made by {host}this installation" if found.made_here else ""


def restored(
    found: RestorePlan, ended: Run, to: Path | None, after: Afterwards | None = None
) -> str:
    """After a restore; `after` of one in place."""
    if to is not None or after is None:
        return f"Set {ended.set_id}{_from(found)} was checked and written to {to}."
    one = found.backup_set
    lines = [f"Restored from set {ended.set_id}{_from(found)}, {format_utc(one.created_at)}:"]
    for item in found.items:
        name, live = item.stored.source, item.live
        before = rows_of(live.rows) if live.rows is not None else live.state
        rows = after.rows.get(name)
        lines.append(
            f"  {name}: {rows_of(rows) if rows is not None else 'unread'} ({before} before)"
        )
    if after.app is not None:
        lines += [
            f"The running app (process {after.app[1]} on {after.app[0]}) serves it already, and "
            "makes a new restore point within a minute.",
            "With that, status turns green, if nothing else is wrong: ./bot backups status",
        ]
    else:
        lines += [
            "A running app uses it already.",
            f"The next restore point is made at {format_utc(after.next_run_at)}, or now: "
            "./bot backups run",
            "With that, status turns green, if nothing else is wrong: ./bot backups status",
        ]
    if after.kept:
        lines.append(
            "What was replaced is kept. To put it back: ./bot backups restore --undo --yes"
        )
    if one.mark == "unsigned" and one.instance:
        lines.append(
            "To mark the other sets of its installation, as far as they prove: "
            f"./bot backups adopt {one.instance} --accept-unsigned"
        )
    return "\n".join(lines)


def undo_plan(record: RestoreRecord) -> str:
    """What an undo would do."""
    run = f"Run {record.run_id} of {format_utc(record.at)}"
    if record.owed:
        lines = [f"{run}, an undo, did not end. To finish it:"]
    elif record.undoes is not None:
        lines = [f"{run} undid the restore of set {record.set_id}."]
    else:
        lines = [f"{run} restored set {record.set_id}."]
    words = {
        "copy": "{0} would be returned to its previous contents",
        "quarantine": "puts back the damaged {0}.db that the restore replaced",
        "nothing": "{0} did not exist before that restore, and would stay as it is",
    }
    lines += [f"  {words[one.kind].format(one.source)}" for one in record.to_put_back]
    return "\n".join([*lines, "Nothing was changed. To do it: ./bot backups restore --undo --yes"])
