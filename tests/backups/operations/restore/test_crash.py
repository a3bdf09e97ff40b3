"""SIGKILL at every stage boundary and at random moments of restores and undos.

Whatever the moment: each database has its old or its new content, opens sound, the same command
given again finishes, and an undo then brings back what was there before the first attempt.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from backups.errors import NothingToUndo
from tests.support.bench import Bench, open_bench
from tests.support.generations import (
    SOURCES,
    LiveStateName,
    bring_into,
    connect,
    generation_of,
    live_path,
    side_files,
)
from tests.support.installation import installation_in
from tests.support.restore_process import Act, Outcome, run_apart

pytestmark = pytest.mark.slow

ROWS, BYTES_A_ROW = 12, 100_000  # more than one step of the backup API each
CRASH_STATES: tuple[LiveStateName, ...] = ("healthy", "missing", "corrupt header", "corrupt body")

_STEPS = ("os.mkdir", "os.rename", "os.link", "os.remove")


def _moved(template: Path, folder: Path) -> Path:
    """A copy of an installation; what its records say of paths moves along."""
    shutil.copytree(template, folder)
    with (
        open_bench(folder, settings={}) as bench,
        bench.records.transaction() as connection,
    ):
        connection.execute(
            "UPDATE facts SET value = replace(value, ?, ?)", (str(template), str(folder))
        )
    return folder


class Scene:
    """Copies of a folder in which a restore or an undo is about to happen, from what to what."""

    def __init__(self, template: Path, act: Act, state: LiveStateName) -> None:
        self.act = act
        self.state = state
        self.template = template
        self.old = "genlive" if act == "restore" else "genset"
        self.new = "genset" if act == "restore" else "genlive"
        with open_bench(template, settings={}) as bench:
            bench.write("genset", rows=ROWS, bytes_a_row=BYTES_A_ROW)
            self.set_id = bench.made().id
            bench.write("genlive", rows=ROWS, bytes_a_row=BYTES_A_ROW)
            if act == "undo":
                bench.restored()
            self.runs_before = len(bench.service.run_log.page(100))
            for source in SOURCES:
                bring_into(state, bench.live(source))
            self.damaged = {
                source: bench.live(source).read_bytes() if state != "missing" else b""
                for source in SOURCES
            }

    def copy(self, folder: Path) -> Path:
        """The scene at another place; what its records say of paths moves along."""
        return _moved(self.template, folder)

    def run(self, folder: Path, **how: int | float) -> Outcome:
        """Do it there, in a process of its own."""
        return run_apart(installation_in(folder), self.act, self.set_id, **how)  # type: ignore[arg-type]

    def check(self, folder: Path, moment: str) -> None:
        """After a crash: old or new, then finished by a second attempt, then undone."""
        with open_bench(folder, settings={}) as bench:
            for source in SOURCES:
                self._check_old_or_new(bench, source, moment)
            if not self._is_recorded_as_done(bench):
                if self.act == "restore":
                    run = bench.restore(self.set_id)
                else:
                    run = bench.service.undo.begin().execute()
                assert run.status == "succeeded", (moment, run.error)
            assert bench.generations() == dict.fromkeys(SOURCES, self.new), moment
            if self.state == "healthy":
                bench.undo()
                assert bench.generations() == dict.fromkeys(SOURCES, self.old), moment
            elif self.state == "corrupt header":
                bench.undo()
                for source in SOURCES:
                    assert bench.live(source).read_bytes() == self.damaged[source], moment
            assert list((bench.directory.path / "staging").iterdir()) == []

    def _is_recorded_as_done(self, bench: Bench) -> bool:
        """Whether the kill came after the end: the same command would be one more then."""
        runs = bench.service.run_log.page(100)
        return len(runs) > self.runs_before and runs[0].status == "succeeded"

    def _check_old_or_new(self, bench: Bench, source: str, moment: str) -> None:
        live = bench.live(source)
        if self.state == "healthy":
            assert generation_of(live) in (self.old, self.new), moment
        elif not live.exists():
            assert self.state == "missing", moment
        elif self.state == "missing" or self._is_new(live):
            assert generation_of(live) == self.new, moment
        elif self.state == "corrupt header":
            assert live.read_bytes() == self.damaged[source], moment

    def _is_new(self, live: Path) -> bool:
        try:
            return generation_of(live) == self.new
        except Exception:
            return False


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[tuple[Act, str], Scene]]:
    """A scene for each act and state that is crashed."""
    made: dict[tuple[Act, str], Scene] = {}
    for state in CRASH_STATES:
        made["restore", state] = Scene(tmp_path_factory.mktemp("scene"), "restore", state)
    made["undo", "healthy"] = Scene(tmp_path_factory.mktemp("scene"), "undo", "healthy")
    yield made
    for scene in made.values():
        shutil.rmtree(scene.template)


def boundaries(moments: list[str]) -> list[int]:
    """The moments at which a stage begins, or at which a stage goes on to the next source."""
    found = []
    before = ""
    for number, name in enumerate(moments):
        stage_and_source = " ".join(name.split()[:2])
        if "." not in name and not name.startswith("os") and name != "open":
            if stage_and_source != before:
                found.append(number)
            before = stage_and_source
    return found


def crash(scene: Scene, folder: Path, **how: int | float) -> None:
    """Crash a copy of the scene, check what is left, and remove it."""
    outcome = scene.run(scene.copy(folder), **how)
    scene.check(folder, f"{scene.act} {scene.state} {how}, killed: {outcome.killed}")
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("act", "state"), [("restore", "healthy"), ("restore", "corrupt header"), ("undo", "healthy")]
)
def test_a_kill_at_every_stage_boundary(
    tmp_path: Path, scenes: dict[tuple[Act, str], Scene], act: Act, state: LiveStateName
) -> None:
    """A restore killed where a stage begins or goes on to the next source harms nothing."""
    scene = scenes[act, state]
    whole = scene.run(scene.copy(tmp_path / "whole"))
    assert whole.status == "succeeded"
    moments = boundaries(whole.moments)
    assert len(moments) >= 4
    for number in moments:
        folder = scene.copy(tmp_path / f"at-{number}")
        outcome = scene.run(folder, kill_at=number)
        assert outcome.killed
        scene.check(folder, f"{act} {state} killed at {number}: {whole.moments[number]}")
        shutil.rmtree(folder)


@pytest.mark.parametrize("state", CRASH_STATES)
def test_a_kill_at_steps_on_the_file_system(
    tmp_path: Path, scenes: dict[tuple[Act, str], Scene], state: LiveStateName
) -> None:
    """A restore killed right before it makes, renames or links a file harms nothing."""
    scene = scenes["restore", state]
    whole = scene.run(scene.copy(tmp_path / "whole"))
    steps = [n for n, name in enumerate(whole.moments) if name in _STEPS]
    chosen = {*steps[:4], *random.sample(steps, 2)} if state == "corrupt header" else steps[:2]
    for number in chosen:
        crash(scene, tmp_path / f"at-{number}", kill_at=number)


def test_a_kill_at_the_end_of_an_undo(tmp_path: Path, scenes: dict[tuple[Act, str], Scene]) -> None:
    """An undo killed before it is recorded as done is finished by the next, and not undone."""
    scene = scenes["undo", "healthy"]
    whole = scene.run(scene.copy(tmp_path / "whole"))
    last = len(whole.moments) - 1
    staging_goes = last - whole.moments[::-1].index("shutil.rmtree")
    for number in (staging_goes, last):
        crash(scene, tmp_path / f"at-{number}", kill_at=number)


def test_a_kill_at_random_moments(tmp_path: Path, scenes: dict[tuple[Act, str], Scene]) -> None:
    """A restore killed at any time harms nothing."""
    scene = scenes["restore", "healthy"]
    seconds = duration(scene, tmp_path)
    for number in range(4):
        crash(scene, tmp_path / str(number), kill_after=random.uniform(0, seconds))


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_two_hundred_kills(tmp_path: Path, scenes: dict[tuple[Act, str], Scene]) -> None:
    """Two hundred kills, at random times and before random steps, in every state."""
    for (act, state), scene in scenes.items():
        whole = scene.run(scene.copy(tmp_path / f"whole-{act}-{state}"))
        seconds = duration(scene, tmp_path)
        for number in range(20):
            crash(scene, tmp_path / "timed", kill_after=random.uniform(0, seconds))
            crash(scene, tmp_path / "step", kill_at=random.randrange(len(whole.moments)))
            print(f"{act} {state} {number}", flush=True)


def duration(scene: Scene, folder: Path) -> float:
    """How long it takes when nobody kills it; below what a test may sleep."""
    place = scene.copy(folder / "timing")
    outcome = scene.run(place)
    assert outcome.status == "succeeded"
    shutil.rmtree(place)
    return min(outcome.seconds, 0.19)


@pytest.mark.parametrize("state", ["corrupt header", "leftover"])
def test_a_kill_at_every_step_of_an_undo_of_damaged_files(
    tmp_path: Path, state: LiveStateName
) -> None:
    """An undo that brings damaged files back is finished by a second one, wherever it ended."""
    template = tmp_path / "template"
    with open_bench(template, settings={}) as bench:
        bench.write("genset")
        bench.made()
        bench.write("genlive")
        files: dict[str, bytes] = {}
        for source in SOURCES:
            bring_into(state, bench.live(source))
            there = (bench.live(source), *side_files(bench.live(source)))
            files.update({file.name: file.read_bytes() for file in there if file.exists()})
        bench.restored()
    whole = run_apart(installation_in(_moved(template, tmp_path / "whole")), "undo")
    steps = [number for number, name in enumerate(whole.moments) if name in _STEPS]
    assert len(steps) >= 6
    for number in steps:
        folder = _moved(template, tmp_path / f"at-{number}")
        assert run_apart(installation_in(folder), "undo", kill_at=number).killed
        with open_bench(folder, settings={}) as bench:
            for source in SOURCES if state == "corrupt header" else ():
                live = bench.live(source)
                assert live.exists(), (number, whole.moments[number])
                if live.read_bytes() != files[live.name]:
                    assert generation_of(live) == "genset", number
            bench.undo()
            back = [
                f
                for source in SOURCES
                for f in (bench.live(source), *side_files(bench.live(source)))
            ]
            assert {f.name: f.read_bytes() for f in back if f.exists()} == files, number
            bench.undo()
            assert bench.generations() == dict.fromkeys(SOURCES, "genset"), number


def test_a_kill_while_damaged_files_are_moved(tmp_path: Path) -> None:
    """Wherever a restore is killed, a damaged main file is never without its `-wal`.

    The same restore then finishes, and an undo, of it or of the killed one, brings all back.
    """
    template = tmp_path / "template"
    with open_bench(template, settings={}) as bench:
        bench.write("genset")
        bench.made()
    with damaged_in_use(_moved(template, tmp_path / "whole")) as folder:
        moments = run_apart(installation_in(folder), "restore").moments
    first, last = moments.index("stage install"), moments.index("stage keep")
    steps = [n for n in range(first, last) if moments[n] in _STEPS]
    assert len(steps) >= 6
    for number in steps:
        for finish in (True, False):
            place = _moved(template, tmp_path / f"at-{number}-{finish}")
            with damaged_in_use(place) as folder, open_bench(folder, settings={}) as bench:
                live = bench.live("tokens")
                damaged = files_of(live)
                assert set(damaged) == {"tokens.db", "tokens.db-wal"}
                assert run_apart(installation_in(folder), "restore", kill_at=number).killed
                assert live.exists(), number
                aside = [files_of(found / live.name) for found in bench.quarantined("tokens")]
                assert damaged in (files_of(live), *aside), number
                if finish:
                    bench.restored()
                    assert bench.generations() == dict.fromkeys(SOURCES, "genset"), number
                with suppress(NothingToUndo):
                    bench.undo()
                assert files_of(live) == damaged, number
            shutil.rmtree(place)


@contextmanager
def damaged_in_use(folder: Path) -> Iterator[Path]:
    """`tokens.db` of an installation with a damaged header, and a `-wal` that a process holds."""
    live = live_path(folder, "tokens")
    with closing(connect(live)) as app:
        app.execute("PRAGMA journal_mode=WAL")
        app.execute("UPDATE tokens SET type = type")
        app.execute("BEGIN")
        app.execute("SELECT count(*) FROM tokens").fetchone()
        raw = os.open(live, os.O_RDWR)  # closed later: closing it drops SQLite's locks
        os.pwrite(raw, b"this is no database at all", 0)
        yield folder
    os.close(raw)


def files_of(live: Path) -> dict[str, bytes]:
    """The content of a database's main file and `-wal` by name."""
    found = (live, *side_files(live)[:1])
    return {file.name: file.read_bytes() for file in found if file.exists()}


def test_a_kill_leaves_no_journal_beside_a_new_file(
    tmp_path: Path, scenes: dict[tuple[Act, str], Scene]
) -> None:
    """What a killed restore leaves beside the database is never applied to what comes next."""
    scene = scenes["restore", "healthy"]
    folder = scene.copy(tmp_path / "scene")
    whole = scene.run(scene.copy(tmp_path / "whole"))
    number = next(n for n, name in enumerate(whole.moments) if name.startswith("install tokens"))
    assert scene.run(folder, kill_at=number).killed
    with open_bench(folder, settings={}) as bench:
        live = bench.live("tokens")
        assert any(side.exists() for side in side_files(live))
        live.unlink()
        bench.restored(scene.set_id)
        assert bench.generations() == dict.fromkeys(SOURCES, "genset")
