"""Writing what was measured into `docs/performance.md`, between two markers."""

from __future__ import annotations

from pathlib import Path

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def write_docs(page: Path, text: str) -> None:
    """Put `text` between the markers, as it was printed."""
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{page} has no lines {BEGIN} and {END}")
    page.write_text(f"{before}{BEGIN}\n\n```text\n{text.strip()}\n```\n\n{END}{after}")
