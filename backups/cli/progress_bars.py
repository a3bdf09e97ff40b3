"""Progress on a terminal: bars with bytes, rate and time left. Elsewhere the log's lines serve."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from backups.model import Progress, ProgressSink
from backups.service import ignore_progress


@contextmanager
def terminal_progress(stream: TextIO, *, quiet: bool = False) -> Iterator[ProgressSink]:
    """A sink that draws on `stream` if that is a terminal, and else, or `quiet`, does nothing."""
    if quiet or not stream.isatty():
        yield ignore_progress
        return
    # Imported only here: nobody else pays for it.
    from rich import progress as rich_progress  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415

    bars = rich_progress.Progress(
        rich_progress.TextColumn("{task.description:<20}"),
        rich_progress.BarColumn(),
        rich_progress.DownloadColumn(),
        rich_progress.TransferSpeedColumn(),
        rich_progress.TimeRemainingColumn(),
        console=Console(file=stream),
    )
    tasks: dict[tuple[str, str], rich_progress.TaskID] = {}

    def show(progress: Progress) -> None:
        if not progress.total:
            return
        name = (progress.stage, progress.source)
        if name not in tasks:
            tasks[name] = bars.add_task(" ".join(name), total=progress.total)
        bars.update(tasks[name], completed=progress.done)

    with bars:
        yield show
