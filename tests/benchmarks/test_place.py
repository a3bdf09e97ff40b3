"""`Place` and its stores: one that yields the processors, and what is sent to it bare."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from benchmarks.contenders.floor import BarePut, BusyProcessor
from benchmarks.contenders.ours import AsCommand
from benchmarks.databases import Values
from benchmarks.measured import CommandTooLong, run
from benchmarks.place import ROOM_IN_MEMORY, Place
from shared.files import folder_in_memory
from tests.support.s3_server import S3Server

MEGABYTES = 0.1


@pytest.fixture(scope="module")
def place(s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A place with an ordinary server."""
    key, folder = Fernet.generate_key().decode(), tmp_path_factory.mktemp("place")
    return Place(folder, s3_server, key, Values(key, 30), s3_server.endpoint)


@pytest.fixture
def yielding(place: Place) -> Place:
    """The same, taken for one whose server yields: nobody who is tested with it sees that."""
    return replace(place, yields=True)


def policies(server: S3Server) -> set[int]:
    """How the kernel schedules the threads of a server."""
    threads = Path(f"/proc/{server.pid}/task").iterdir()
    return {os.sched_getscheduler(int(thread.name)) for thread in threads}


def kind_of_files(server: S3Server) -> str:
    """The file system in which a server works."""
    asked = ["stat", "--file-system", "--format=%T", f"/proc/{server.pid}/cwd/."]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()


def test_a_yielding_store_takes_what_nobody_else_wants(place: Place) -> None:
    """All its threads give way to everybody of this session, and it is killed in the end."""
    with place.yielding() as other:
        assert policies(other.server) == {os.SCHED_IDLE}
        assert os.getsid(other.server.pid) == os.getsid(0)
        assert other.yields
        assert (kind_of_files(other.server) == "tmpfs") is (
            folder_in_memory(ROOM_IN_MEMORY) is not None
        )
        assert other.pair(MEGABYTES) is place.pair(MEGABYTES)
        bucket = other.new_bucket()
        assert other.objects(bucket) == {}
        assert other.spaces(bucket).endpoint == other.server.endpoint != place.endpoint
    with pytest.raises(ProcessLookupError):
        os.killpg(other.server.pid, 0)


def test_an_ordinary_store_takes_what_it_needs(place: Place) -> None:
    """It is scheduled like any program, in a session of its own."""
    assert policies(place.server) == {os.SCHED_OTHER}
    assert os.getsid(place.server.pid) == place.server.pid


def test_names_tell_beside_which_store(place: Place, yielding: Place) -> None:
    """Who was measured beside a store that yields has a line of its own in the tables."""
    assert place.named("one") == "one"
    assert yielding.named("one") == "one, store yields"


def test_a_bare_put_stores_both_files_sealed(yielding: Place) -> None:
    """It sends what a backup with zstd sends, from a process that is gone when it is closed."""
    pair = yielding.pair(MEGABYTES)
    with closing(BarePut(yielding, pair)) as bare:
        for _ in range(2):
            bare.prepare()
            assert bare.backup()["end to end"] > 0
        stored = yielding.objects(bare.bucket)
        pid = bare.pid
    assert stored.keys() == {"tokens.db.zst", "sessions.db.zst"}
    assert 0.2 * pair.bytes < sum(size for size, _ in stored.values()) < 0.8 * pair.bytes
    assert not Path(f"/proc/{pid}").exists()


def test_a_refused_bare_put_is_told(yielding: Place) -> None:
    """A PUT that stored nothing is not measured as one that cost nothing."""
    with closing(BarePut(yielding, yielding.pair(MEGABYTES))) as bare:
        yielding.drop_bucket(bare.bucket)
        with pytest.raises(RuntimeError, match="bare PUT failed"):
            bare.backup()


def test_a_busy_processor_computes_and_does_nothing_else(place: Place) -> None:
    """Its process computes for as long as it is told to, and has ended when that is over."""
    with closing(BusyProcessor(place, place.pair(MEGABYTES))) as busy:
        before = os.times().children_user
        assert busy.backup()["end to end"] >= 1
        assert os.times().children_user - before > 0.15  # all of it, on a host that is idle


def test_nobody_is_in_a_session_of_its_own_beside_a_yielding_store(
    place: Place, yielding: Place, tmp_path: Path
) -> None:
    """The store yields to commands too; elsewhere they have sessions, and they end all the same."""
    for here, own in ((place, True), (yielding, False)):
        with closing(AsCommand(here, here.pair(MEGABYTES), "plain")) as one:
            assert one.backup_command().own_session is own
        code = "import os, pathlib; pathlib.Path('told').write_text(str(os.getsid(0)))"
        run((sys.executable, "-c", code), os.environ, tmp_path, own_session=own)
        assert ((tmp_path / "told").read_text() != str(os.getsid(0))) is own
    with pytest.raises(CommandTooLong):
        run(("sh", "-c", "sleep 60 & wait"), os.environ, tmp_path, 0.1, own_session=False)
