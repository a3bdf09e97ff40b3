"""The picture for the README: a full backup, ours beside its peers, on light and dark pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from benchmarks.budgets import APP, COMMAND, PEERS
from benchmarks.contenders.contender import TO_LAST_PUT, WHOLE, WITH_PROOF
from benchmarks.results import Results
from benchmarks.topics import backup

_SIZES = (100.0, 1000.0)
_SHOWN = (f"{APP}plain", f"{APP}zstd", f"{COMMAND}zstd", *(p for p in PEERS if "at once" not in p))
_WIDTH, _NAMES, _NUMBERS = 720, 190, 120  # the bars are between names and numbers
_LINE, _BAR, _TITLE, _GAP = 24, 16, 34, 18
_LEGEND = 90
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.title { font-weight: 600 }
.number { fill: #59636e }
.ours { fill: #0969da }
.proof { fill: #9ec9f5 }
.peer { fill: #8c959f }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc }
  .number { fill: #9198a1 }
  .ours { fill: #4493f8 }
  .proof { fill: #1f4d86 }
  .peer { fill: #656c76 }
}
"""


@dataclass(frozen=True)
class _Bar:
    """A contender's seconds, and those of the proof that follows."""

    who: str
    seconds: float
    proof: float
    ours: bool


def draw(results: Results, path: Path) -> bool:
    """Write the picture as SVG; False when there was no backup to show."""
    sizes = [size for size in _SIZES if size in results.sizes(backup.TOPIC)]
    charts = [(size, _bars(results, size)) for size in sizes or results.sizes(backup.TOPIC)[-1:]]
    charts = [(size, bars) for size, bars in charts if bars]
    if not charts:
        return False
    height = sum(_TITLE + _LINE * len(bars) + _GAP for _, bars in charts) + _LINE
    picture = Element(
        "svg",
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {_WIDTH} {height}",
        width=str(_WIDTH),
        height=str(height),
        role="img",
    )
    SubElement(picture, "title").text = "Seconds of a full backup, ours beside its peers"
    SubElement(picture, "style").text = _STYLE
    top = 0
    for size, bars in charts:
        _chart(picture, top, size, bars)
        top += _TITLE + _LINE * len(bars) + _GAP
    _legend(picture, top)
    ElementTree.indent(picture)
    path.write_text(ElementTree.tostring(picture, encoding="unicode") + "\n")
    return True


def _bars(results: Results, megabytes: float) -> Sequence[_Bar]:
    found = []
    for who in _SHOWN:
        sent = results.find(backup.TOPIC, megabytes, who, TO_LAST_PUT)
        whole = results.find(backup.TOPIC, megabytes, who, WITH_PROOF)
        peer = results.find(backup.TOPIC, megabytes, who, WHOLE)
        if sent and whole:
            found.append(_Bar(who, sent.median, whole.median - sent.median, ours=True))
        elif peer:
            found.append(_Bar(who, peer.median, 0.0, ours=False))
    return found


def _chart(picture: Element, top: int, megabytes: float, bars: Sequence[_Bar]) -> None:
    tokens = f"{megabytes:g} MB" if megabytes < 1000 else f"{megabytes / 1000:g} GB"
    title = f"Full backup of tokens.db ({tokens}) and sessions.db (a fifth): seconds"
    _text(picture, 0, top + 20, title, "title")
    scale = (_WIDTH - _NAMES - _NUMBERS) / max(bar.seconds + bar.proof for bar in bars)
    for number, bar in enumerate(bars):
        y = top + _TITLE + _LINE * number
        _text(picture, _NAMES - 8, y + 13, bar.who, "name", end=True)
        first = max(bar.seconds * scale, 1)
        _box(picture, _NAMES, y, first, "ours" if bar.ours else "peer")
        _box(picture, _NAMES + first, y, bar.proof * scale, "proof")
        told = f"{bar.seconds:.2f}" + (f" + {bar.proof:.2f}" if bar.ours else "")
        _text(picture, _NAMES + first + bar.proof * scale + 6, y + 13, told, "number")


def _legend(picture: Element, top: int) -> None:
    x = float(_LEGEND)
    for kind, told in (
        ("ours", "until the last byte is stored"),
        ("proof", "reading it back and checking it"),
        ("peer", "peers"),
    ):
        _box(picture, x, top, 12, kind)
        _text(picture, x + 18, top + 13, told, "number")
        x += 34 + 6.5 * len(told)


def _box(picture: Element, x: float, y: float, width: float, kind: str) -> None:
    if width > 0:
        shape = {"x": f"{x:.1f}", "y": f"{y:g}", "width": f"{width:.1f}", "height": str(_BAR)}
        SubElement(picture, "rect", {**shape, "class": kind})


def _text(picture: Element, x: float, y: float, told: str, kind: str, *, end: bool = False) -> None:
    attributes = {"x": f"{x:.1f}", "y": f"{y:g}", "class": kind}
    if end:
        attributes["text-anchor"] = "end"
    SubElement(picture, "text", attributes).text = told
