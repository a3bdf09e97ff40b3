"""Sources whose configured path goes over a symbolic link: all that is done means the file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from backups.doctor import host
from backups.errors import LinkDangling, RestoreBlocked
from tests.support.bench import Bench, open_bench
from tests.support.generations import SOURCES, LiveStateName, bring_into, generation_of, side_files


def relative(live: Path, disk: Path) -> None:
    """The file is elsewhere, and a relative link leads to it."""
    move(live, disk / live.name)
    live.symlink_to(os.path.relpath(disk / live.name, live.parent))


def chain(live: Path, disk: Path) -> None:
    """A relative link leads to an absolute one, which leads to the file."""
    move(live, disk / live.name)
    (disk / "first").mkdir(exist_ok=True)
    (disk / "first" / live.name).symlink_to(disk / live.name)
    live.symlink_to(os.path.relpath(disk / "first" / live.name, live.parent))


def folder(live: Path, disk: Path) -> None:
    """The folder of the database is the link."""
    if not live.parent.is_symlink():
        live.parent.rename(disk / "data")
        live.parent.symlink_to(os.path.relpath(disk / "data", live.parent.parent))


LINKS = [relative, chain, folder]


def move(live: Path, to: Path) -> None:
    """Move a database that nobody has open."""
    for file in (live, *side_files(live)):
        if file.exists():
            file.rename(to.with_name(to.name + file.name.removeprefix(live.name)))


@contextmanager
def linked(place: Path, make: Callable[[Path, Path], None]) -> Iterator[Bench]:
    """`genset` in the store, `genlive` in the live databases, which are behind links."""
    disk = place / "disk"
    disk.mkdir()
    with open_bench(place / "home", settings={}) as bench:
        bench.write("genset")
        bench.made()
        bench.write("genlive")
        given = [bench.live(source) for source in SOURCES]
    for live in given:
        make(live, disk)
    with open_bench(place / "home", settings={}) as bench:
        yield bench


@pytest.mark.parametrize("make", LINKS)
@pytest.mark.parametrize("state", ["healthy", "corrupt header", "zero bytes"])
def test_restore_and_undo_mean_the_file_and_leave_the_link(
    tmp_path: Path, make: Callable[[Path, Path], None], state: LiveStateName
) -> None:
    """In every state a restore and its undo change the file that the link leads to."""
    with linked(tmp_path, make) as bench:
        given = [bench.installation.folder / "data" / f"{source}.db" for source in SOURCES]
        files = [Path(os.path.realpath(path)) for path in given]
        for file in files:
            bring_into(state, file)
        before = [file.read_bytes() for file in files]

        bench.restored()

        assert [generation_of(path) for path in given] == ["genset", "genset"]
        assert [Path(os.path.realpath(path)) for path in given] == files
        if state != "healthy":  # it was moved aside, on the disk that it is on
            aside = [file.parent.glob(f"{file.name}.quarantine-*/{file.name}") for file in files]
            assert [[kept.read_bytes() for kept in found] for found in aside] == [
                [content] for content in before
            ]

        bench.undo()

        assert [Path(os.path.realpath(path)) for path in given] == files
        if state == "healthy":
            assert [generation_of(path) for path in given] == ["genlive", "genlive"]
        else:
            assert [file.read_bytes() for file in files] == before


def dangling(bench: Bench) -> AbstractContextManager[Bench]:
    """The installation again, with `tokens.db` a link into a folder that is not there."""
    tokens = bench.installation.tokens_path
    bring_into("missing", tokens)
    tokens.symlink_to("../volume/tokens.db")
    return open_bench(bench.folder, settings={})


def names(place: Path) -> set[Path]:
    """Every path of an installation, but for its store and its BACKUP_DIR."""
    return {path for path in place.rglob("*") if not {"spaces", "backups"}.intersection(path.parts)}


@pytest.mark.parametrize("at", ["file", "folder"])
def test_a_link_that_leads_nowhere_is_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """Restore, restore-on-empty, a start and a backup name the link, and write no file for it."""
    with open_bench(tmp_path, settings={}) as bench:
        bench.write("genset")
        bench.made()
        if at == "file":
            again = dangling(bench)
        else:
            bench.tokens.parent.rename(tmp_path / "away")
            bench.tokens.parent.symlink_to("volume")
            again = open_bench(
                tmp_path,
                settings={"BACKUP_DIR": "away/backups", "BACKUP_LOCAL_STORE": "away/spaces"},
            )
    monkeypatch.chdir(tmp_path)
    link = tmp_path / "data" / "tokens.db" if at == "file" else tmp_path / "data"
    with again as bench:
        before = names(tmp_path)
        with pytest.raises(RestoreBlocked) as refused:
            bench.restore()
        for act in (
            bench.service.restore_on_empty.restore_missing,
            bench.service.restore_on_empty.note_missing,
        ):
            with pytest.raises(LinkDangling, match=r"is a link to"):
                act()
        backup = bench.run()
        assert backup.error is not None
        for error in (refused.value, backup.error):
            assert error.code == "link_dangling"
            assert f"{link} is a link to" in error.message
            assert "mount" in error.hint.lower()
        assert bench.facts.started_empty() == {}
        assert names(tmp_path) == before
    assert link.is_symlink()


def test_plan_status_and_doctor_name_the_link(tmp_path: Path) -> None:
    """None of them says that the file is to be restored: it is to be mounted."""
    with open_bench(tmp_path, settings={}) as bench:
        bench.write("genset")
        bench.made()
        again = dangling(bench)
    with again as bench:
        (blocker,) = bench.service.restore.plan(only="tokens").blockers
        assert blocker.code == "link_dangling"
        (missing,) = (
            found
            for found in bench.service.status().health.problems
            if found.code == "source_missing"
        )
        lines = [one for one in host.databases(bench.service) if one.level == "problem"]
        for message, hint in (
            (blocker.message, blocker.hint),
            (missing.message, missing.hint),
            (lines[0].message, lines[0].hint),
        ):
            assert "is a link to ../volume/tokens.db, which does not exist" in message
            assert hint.startswith("Mount the disk")


def test_a_path_without_links_is_left_as_it_was_given(tmp_path: Path) -> None:
    """Messages show the path of `.env`; only a path over a link is shown as the real one."""
    with open_bench(tmp_path, settings={}) as bench:
        assert bench.tokens == bench.installation.tokens_path
        assert bench.sources[0].link is None
