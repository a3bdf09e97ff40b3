"""Showing results to a person."""

from __future__ import annotations

import os
import platform
import sqlite3

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.contenders.scripts import Scripts  # noqa: F401
from benchmarks.results import Results

BASE = "two shell scripts"


def host() -> str:
    """The host and the versions that decide about the numbers."""
    return (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs, "
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    )


def table(results: Results) -> str:
    """All tables."""
    console = Console(width=110, record=True, file=open(os.devnull, "w"))
    for megabytes in results.sizes("backup"):
        found = Table(title=f"backup, tokens {megabytes:g} MB", box=box.SIMPLE)
        for name in ("who", "what", "median", "least", "most", "of the scripts"):
            found.add_column(name, justify="left" if name in ("who", "what") else "right")
        base = results.find("backup", megabytes, BASE, "end to end")
        for m in results.of("backup", megabytes):
            ratio = f"{m.median / base.median:.2f}" if base else ""
            found.add_row(
                m.who, m.what, f"{m.median:.3f} s", f"{m.least:.3f}", f"{m.most:.3f}", ratio
            )
        console.print(found)
    return console.export_text()
