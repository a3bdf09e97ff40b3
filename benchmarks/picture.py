"""The picture for the README: a full backup, ours beside its peers, on light and dark pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.budgets import APP, COMMAND, PEERS
from benchmarks.contenders.contender import TO_LAST_PUT, WHOLE, WITH_PROOF
from benchmarks.results import Results
from benchmarks.topics import backup

# Seen well on white and on black alike, since one picture serves both.
_INK, _OURS, _PROOF, _PEER = "#7d8590", "#2f81f7", "#8cb8f5", "#a3a9b1"
_SIZES = (100.0, 1000.0)
_OURS_SHOWN = (f"{APP}plain", f"{APP}zstd", f"{COMMAND}zstd")
_PEERS_SHOWN = tuple(who for who in PEERS if "at once" not in who)


def draw(results: Results, path: Path) -> bool:
    """Write the picture as SVG; False when no backup of a size that it shows was measured."""
    import matplotlib as mpl  # noqa: PLC0415 - slow, and only needed to draw

    mpl.use("svg")
    from matplotlib import pyplot  # noqa: PLC0415

    sizes = [size for size in _SIZES if size in results.sizes(backup.TOPIC)]
    sizes = sizes or results.sizes(backup.TOPIC)[-1:]
    if not sizes:
        return False
    style: Any = {
        "svg.hashsalt": "performance",
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "font.size": 10,
        **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), _INK),
        "axes.edgecolor": _INK,
    }
    with mpl.rc_context(style):
        figure, every = pyplot.subplots(1, len(sizes), figsize=(5.2 * len(sizes), 3.2))
        for axes, megabytes in zip([every] if len(sizes) == 1 else every, sizes, strict=True):
            _bars(axes, results, megabytes)
        figure.tight_layout()
        figure.savefig(path, format="svg", transparent=True, metadata={"Date": None})
        pyplot.close(figure)
    return True


def _bars(axes: object, results: Results, megabytes: float) -> None:
    from matplotlib.axes import Axes  # noqa: PLC0415

    assert isinstance(axes, Axes)
    names, seconds, proofs, colours = [], [], [], []
    for who in (*_OURS_SHOWN, *_PEERS_SHOWN):
        sent = results.find(backup.TOPIC, megabytes, who, TO_LAST_PUT)
        whole = results.find(backup.TOPIC, megabytes, who, WITH_PROOF)
        peer = results.find(backup.TOPIC, megabytes, who, WHOLE)
        shown = sent or peer
        if shown is None:
            continue
        names.append(who)
        seconds.append(shown.median)
        proofs.append(whole.median - shown.median if whole else 0.0)
        colours.append(_OURS if sent else _PEER)
    places = range(len(names))
    axes.barh(places, seconds, color=colours)
    axes.barh(places, proofs, left=seconds, color=_PROOF, label="reading it back: the proof")
    for place, until, proof in zip(places, seconds, proofs, strict=True):
        axes.text(until + proof, place, f" {until:.2f} s", va="center")
    axes.set_yticks(list(places), names)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlim(0, 1.15 * max(a + b for a, b in zip(seconds, proofs, strict=True)))
    tokens = f"{megabytes:g} MB" if megabytes < 1000 else f"{megabytes / 1000:g} GB"
    axes.set_title(f"Full backup, tokens.db {tokens}, seconds")
    axes.legend(frameon=False, fontsize=8, loc="lower right")
