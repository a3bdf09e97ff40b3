"""Records of this host that are lost, damaged or cannot be written: status says it, and it ends."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from backups.host import records
from backups.http.metrics import BackupCollector
from backups.model import Run
from backups.page.overview import gather
from backups.view.headline import headline
from shared.databases.renewal import moved_aside
from shared.errors import AppError
from tests.backups.conftest import LogLines
from tests.support.bench import Bench, open_bench
from tests.support.clock import FixedClock
from tests.support.installation import REPOSITORY, Installation, installation_in
from tests.support.records import INSTANT
from tests.support.store_wrappers import WatchedStore


def path_of(bench: Bench) -> Path:
    return bench.directory.path / "runs.db"


def remove_records(bench: Bench) -> None:
    """Those of this host, and what it knows of the store."""
    for file in (*bench.directory.path.glob("runs.db*"), *bench.directory.path.glob("*/*.db*")):
        file.unlink()


def warnings(bench: Bench) -> list[str]:
    return [found.code for found in bench.service.status().health.warnings]


def catch_up(bench: Bench) -> Run | None:
    """What the scheduler does every minute."""
    return bench.service.backup.run_if_owed("catch-up")


# --- lost and damaged -------------------------------------------------------------------


def test_records_that_are_gone_come_back_with_all_that_the_store_has(
    bench: Bench, clock: FixedClock, log_lines: LogLines
) -> None:
    """Within a minute the sets are listed again, and a set was made: what failed is not known."""
    made = [bench.made().id]
    clock.advance(hours=1)
    made.append(bench.made().id)
    assert bench.problems() == []

    remove_records(bench)

    assert bench.problems() == ["no_restore_point"]
    assert bench.service.own_sets.refresh() is None
    assert bench.problems() == []
    # Whether a backup failed since the last complete one, nobody knows: it is not green.
    assert "attempts_unknown" in warnings(bench)
    assert bench.service.status().health.light == "amber"
    assert sorted(found.id for found in bench.service.catalogue.sets()) == made
    # So one is made, which ends that.
    assert catch_up(bench) is not None
    assert catch_up(bench) is None
    assert "attempts_unknown" not in warnings(bench)
    said = {one.name: one.getMessage() for one in log_lines.records}
    of_records, of_store = said["backups.host.records"], said["backups.host.catalogues"]
    assert "the run log, and what restore --undo needs" in of_records
    assert "the list of objects that a prune had still to delete" in of_store
    assert bench.made().proof == "full"


@pytest.mark.parametrize("content", [b"", b"no database" * 10_000])
def test_damaged_records_are_kept_and_named_until_a_person_removes_them(
    tmp_path: Path, store: WatchedStore, content: bytes
) -> None:
    """One warning, for as long as the file lies there; the light is not red for it."""
    clock = FixedClock(INSTANT)
    with open_bench(tmp_path, store, clock=clock) as bench:
        made = bench.made()
        assert "records_damaged" not in warnings(bench)
    path_of(bench).write_bytes(content)

    with open_bench(tmp_path, store, clock=clock, sources=bench.sources) as bench:
        catch_up(bench)

        assert bench.problems() == []
        assert made.id in [found.id for found in bench.service.catalogue.sets()]
        assert warnings(bench).count("records_damaged") == 1
        (aside,) = moved_aside(path_of(bench))
        assert aside.read_bytes() == content
        aside.unlink()
        assert "records_damaged" not in warnings(bench)


def test_a_run_whose_record_is_lost_meanwhile_is_recorded_all_the_same(bench: Bench) -> None:
    """The records go while a run is on its way: the run ends well, and is in the new log."""
    started = bench.service.backup.begin()
    remove_records(bench)

    run = started.execute()

    assert run.status == "succeeded"
    assert bench.service.get_run(run.id) == run


# --- unusable ---------------------------------------------------------------------------


def test_status_says_that_the_records_cannot_be_read(bench: Bench) -> None:
    """It raises nothing, names the file and the reason, and is over when the cause is."""
    bench.made()
    remove_records(bench)
    path_of(bench).mkdir()

    status = bench.service.status()

    (found,) = status.health.problems
    assert found.code == "records_unusable"
    assert str(path_of(bench)) in found.message
    assert found.hint
    assert status.newest_restore_point is None
    assert status.last_run is None
    overview = gather(bench.service, bench.service.clock.now())
    assert overview.headline == headline(status, bench.service.clock.now())
    assert overview.headline.code == "records_unusable"
    (light,) = (one for one in BackupCollector(bench.service).collect() if "light" in one.name)
    assert light.samples[0].value == 0

    path_of(bench).rmdir()
    catch_up(bench)
    assert bench.problems() == []


def test_a_command_shows_status_while_the_records_cannot_be_opened(tmp_path: Path) -> None:
    """A process that begins meanwhile exits with 3 and says why, as a running one does."""
    installation = installation_in(tmp_path).make_databases()
    installation.json("run")
    for file in (tmp_path / "data" / "backups").glob("runs.db*"):
        file.unlink()
    (tmp_path / "data" / "backups" / "runs.db").mkdir()

    shown = installation.json("status", exit_code=3)

    assert [found["code"] for found in shown["problems"]] == ["records_unusable"]


@pytest.mark.slow
@pytest.mark.parametrize("files", ["blocks", "inodes"])
def test_a_command_sees_that_the_disk_is_full(tmp_path: Path, files: str) -> None:
    """Nothing has to fail first: a full disk of `BACKUP_DIR` is a problem of status."""
    installation = installation_in(tmp_path).make_databases()
    installation.json("run")

    shown = status_on_a_full_disk(installation, files)

    found = {one["code"]: one for one in shown["problems"]}
    assert "is full" in found["records_unusable"]["message"]
    assert "Make room" in found["records_unusable"]["hint"]


@pytest.mark.slow
@pytest.mark.parametrize("command", ["list", "run", "restore --undo --yes"])
def test_a_command_on_a_full_disk_says_so(tmp_path: Path, command: str) -> None:
    """No command calls a full disk an input/output error: it names the file, and what to do."""
    installation = installation_in(tmp_path).make_databases()
    installation.json("run")

    done = on_a_full_disk(installation, "blocks", *command.split())

    assert done.returncode == 1, done.stderr
    assert "input/output error" not in done.stderr
    assert str(tmp_path / "data" / "backups") in done.stderr
    assert "the disk is full" in done.stderr
    assert "Make room on that disk" in done.stderr


def status_on_a_full_disk(
    installation: Installation, files: str
) -> dict[str, list[dict[str, str]]]:
    """`status --json` there, which is red."""
    done = on_a_full_disk(installation, files, "status", "--json")
    assert done.returncode == 3, done.stderr
    document: dict[str, list[dict[str, str]]] = json.loads(done.stdout)
    return document


def on_a_full_disk(
    installation: Installation, files: str, *command: str
) -> subprocess.CompletedProcess[str]:
    """A command where `BACKUP_DIR` is on a small disk of its own that has no room left."""
    folder = installation.folder / "data" / "backups"
    limit, fill = {
        "blocks": ("size=4m", 'head -c 8m /dev/zero > "$0/filler"'),
        "inodes": ("nr_inodes=64", 'for n in $(seq 99); do touch "$0/filler-$n"; done'),
    }[files]
    script = (
        f'cp -a "$0" "$0.kept" && mount -t tmpfs -o {limit} none "$0" && cp -a "$0.kept/." "$0"'
        f' && {{ {fill}; }} 2> "$0.errors"; "$@"; code=$?; rm -rf "$0.kept" "$0.errors"; exit $code'
    )
    return subprocess.run(
        [
            *("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, str(folder)),
            *installation.command(*command),
        ],
        cwd=REPOSITORY,
        env=installation.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_disk_without_room_is_full_and_one_that_does_not_count_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system that says 0 of 0 blocks keeps no count of them."""
    assert records.find_faults(tmp_path) == ()
    assert records.find_faults(tmp_path / "not-made-yet") == ()

    class Disk:
        f_blocks, f_bavail, f_frsize, f_files, f_favail = 0, 0, 4096, 0, 0

    monkeypatch.setattr(os, "statvfs", lambda _: Disk)
    assert records.find_faults(tmp_path) == ()
    Disk.f_blocks, Disk.f_bavail = 1000, records.FULL_BELOW_BYTES // 4096
    assert records.find_faults(tmp_path) == ()
    Disk.f_bavail -= 1
    assert [found.code for found in records.find_faults(tmp_path)] == ["records_unusable"]


# --- runs that cannot begin -------------------------------------------------------------


def test_a_run_that_cannot_begin_is_a_problem_until_one_could(bench: Bench) -> None:
    """It is in no run log: this process remembers it, and forgets it once the cause is over."""
    bench.made()
    lock = bench.directory.path / "run.lock"
    lock.unlink()
    lock.mkdir()
    with pytest.raises(AppError):
        bench.run()

    (found,) = bench.service.status().health.problems
    assert found.code == "cannot_begin"
    assert "run.lock" in found.message
    assert found.hint
    assert bench.problems() == ["cannot_begin"]

    lock.rmdir()
    assert bench.problems() == []


def test_a_run_that_cannot_be_recorded_is_a_problem(bench: Bench) -> None:
    """The lease was there, and the run log could not be written."""
    bench.made()
    with bench.records.transaction() as connection:
        connection.execute(
            "CREATE TRIGGER broken BEFORE INSERT ON run_totals BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
        connection.execute(
            "CREATE TRIGGER full BEFORE INSERT ON runs BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    with pytest.raises(AppError):
        bench.run()

    assert bench.problems() == ["cannot_begin"]
    assert bench.is_free()
    assert bench.staged() == []

    with bench.records.transaction() as connection:
        connection.execute("DROP TRIGGER full")
        connection.execute("DROP TRIGGER broken")
    assert bench.problems() == []


def test_that_it_cannot_be_asked_whether_a_run_is_owed_is_a_problem(
    bench: Bench, clock: FixedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fails before the lease counts too, until the same question is answered."""
    bench.made()

    def fail(_trigger: str, **_: bool) -> bool:
        raise ZeroDivisionError

    monkeypatch.setattr(bench.service.own_sets, "is_owed", fail)
    with pytest.raises(ZeroDivisionError):
        catch_up(bench)
    assert bench.problems() == ["cannot_begin"]
    assert bench.problems() == ["cannot_begin"]

    monkeypatch.undo()
    clock.advance(minutes=1)
    catch_up(bench)
    assert bench.problems() == []


def test_a_run_in_the_way_is_no_failure(bench: Bench) -> None:
    """While another run holds the lease, nothing is wrong."""
    bench.made()
    held = bench.directory.run_lease.try_acquire()
    assert held is not None
    with pytest.raises(AppError):
        bench.service.backup.begin()
    held.release()

    assert bench.problems() == []


def test_a_folder_that_is_gone_is_no_reason_for_red(bench: Bench) -> None:
    """The next use makes it anew."""
    bench.made()
    shutil.rmtree(bench.directory.path)

    catch_up(bench)

    assert bench.problems() == []
