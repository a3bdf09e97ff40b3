"""What happens to a database that is followed: the newest committed row is stored, and said so."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest

from tests.support.app_process import AppProcess
from tests.support.bucket_oracle import S3Bucket
from tests.support.chain_oracle import ChainOracle
from tests.support.databases import add_rows, make_database, overwrite_leaf
from tests.support.fault_proxy import FaultProxy, drop
from tests.support.followed import Followed, Load
from tests.support.installation import TOKEN_ENCRYPTION_KEY, Installation
from tests.support.s3_server import S3Server
from tests.support.waiting import eventually

FOLLOWS = ("compare", "wal")


@pytest.fixture(params=["auto", "wal"])
def followed(request: pytest.FixtureRequest, s3_server: S3Server, tmp_path: Path) -> Followed:
    """An installation over a bucket of its own, followed in both ways."""
    return followed_in(tmp_path / "host", s3_server, BACKUP_FOLLOW=request.param)


def followed_in(folder: Path, server: S3Server, **settings: str) -> Followed:
    """An installation over a new bucket."""
    folder.mkdir()
    return Followed.in_bucket(folder, server, server.settings_of_new_bucket(), **settings)


def execute(path: Path, *statements: str) -> None:
    """Run statements on a live database, on a connection of their own."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as connection:
        for statement in statements:
            connection.execute(statement)


def is_true(followed: Followed, app: AppProcess, key: str) -> None:
    """The newest committed row is stored; status names that point, and that it follows (again)."""
    followed.put(key, "the newest row")
    point = followed.wait_until_stored(key, "the newest row")
    status = eventually(
        lambda: _if_it_knows(followed.status(app), point.instant), "status knows the point"
    )
    assert status["problems"] == []
    assert followed.oracle.check() > 0


def _if_it_knows(status: dict[str, object], instant: int) -> dict[str, object] | None:
    at = status["newest_point_at"]
    assert isinstance(at, str | None)
    known = (
        at is not None and datetime.fromisoformat(at).timestamp() * 1000 >= instant // 1000 * 1000
    )
    return status if known and status["follow"] in FOLLOWS else None


LIVE = {
    "VACUUM": ("VACUUM",),
    "shrunk": ("DELETE FROM tokens WHERE key LIKE 'FILLER_%'", "VACUUM"),
    "grown and gone": (
        "CREATE TABLE more AS SELECT * FROM tokens",
        "INSERT INTO more SELECT * FROM tokens",
        "DROP TABLE more",
    ),
    "a checkpoint": ("PRAGMA wal_checkpoint(TRUNCATE)",),
}


@pytest.mark.parametrize("statements", LIVE.values(), ids=LIVE)
def test_a_live_database_may_be_rewritten(followed: Followed, statements: tuple[str, ...]) -> None:
    """VACUUM, growth, shrinking and a checkpoint by somebody else, while it is followed."""
    followed.grow(1)
    with followed.serving() as app:
        execute(followed.installation.tokens_path, *statements)
        is_true(followed, app, "NEWEST")


def _other_page_size(path: Path) -> None:
    execute(path, "PRAGMA journal_mode=DELETE", "PRAGMA page_size=8192", "VACUUM")
    execute(path, "PRAGMA journal_mode=WAL")


def _left_wal(path: Path) -> None:
    execute(path, "PRAGMA journal_mode=DELETE")


def _replaced(path: Path) -> None:
    other = path.with_name("other.db")
    with closing(sqlite3.connect(path)) as old, closing(sqlite3.connect(other)) as new:
        old.backup(new)
        new.execute("DELETE FROM tokens WHERE key LIKE 'FILLER_%'")
        new.commit()
    for end in ("-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)
    other.replace(path)


@pytest.mark.parametrize("change", [_other_page_size, _left_wal, _replaced])
def test_what_was_done_while_the_app_was_stopped(
    followed: Followed, change: Callable[[Path], None]
) -> None:
    """Another page size, another journal mode and another file are found at the next start."""
    followed.grow(1)
    with followed.serving():
        pass
    change(followed.installation.tokens_path)
    with followed.serving() as app:
        is_true(followed, app, "NEWEST")


def test_a_restore_in_place_ends_the_chain(s3_server: S3Server, tmp_path: Path) -> None:
    """The app restores a point of its chain while it follows; what is written then is stored."""
    followed = followed_in(tmp_path / "host", s3_server)
    with followed.serving() as app:
        followed.put("KEPT", "before the restore")
        point = followed.wait_until_stored("KEPT", "before the restore")
        followed.put("LOST", "after the point")
        followed.wait_until_stored("LOST", "after the point")
        with app.client() as client:
            answer = client.post(
                f"/admin/backups/sets/{point.id}/restore",
                json={"confirm": point.id},
                params={"wait": "true"},
            )
        assert answer.status_code == 200, answer.text
        is_true(followed, app, "NEWEST")
        newest = followed.oracle.newest()
    assert newest.set_id != point.set_id, "a new chain"
    assert followed.value_at(newest, "KEPT") is not None
    assert followed.value_at(newest, "LOST") is None
    lost = [one for one in followed.oracle.points() if one.chain == point.chain][-1]
    assert followed.value_at(lost, "LOST") is not None, "what the restore undid can be reached"


def test_a_source_is_added_and_taken_away(s3_server: S3Server, tmp_path: Path) -> None:
    """Each start follows the sources of its settings; a new one is stored like the others."""
    followed = followed_in(tmp_path / "host", s3_server)
    with followed.serving():
        pass
    orders = make_database(tmp_path / "orders.db")
    more = followed.installation.with_settings(BACKUP_EXTRA_SOURCES=f"orders={orders}")
    both = Followed(more, followed.oracle)
    with both.serving() as app:
        add_rows(orders, 1)
        is_true(both, app, "BOTH")
        eventually(lambda: _count(both, "orders") == 4, "the row of the new source is stored")
    with followed.serving() as app:
        is_true(followed, app, "ALONE")
        assert "orders" not in followed.oracle.state(followed.oracle.newest())


def _count(followed: Followed, source: str) -> int:
    newest = followed.oracle.newest()
    if source not in followed.oracle.state(newest):
        return 0
    return int(followed.oracle.rows(newest, f'SELECT count(*) FROM "{source}"', source)[0][0])


def test_writers_that_never_pause_are_followed(followed: Followed) -> None:
    """Points go on while somebody commits without a pause."""
    with Load(followed.installation, pause=0) as load, followed.serving() as app:
        for _ in range(3):
            number = len(followed.oracle.points())
            eventually(lambda least=number: len(followed.oracle.points()) > least, "a point more")  # type: ignore[misc]
        assert load.written > 0
        is_true(followed, app, "NEWEST")


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[FaultProxy]:
    """In front of the S3 server."""
    with FaultProxy(s3_server.endpoint) as proxy:
        yield proxy


def test_a_store_that_was_away_gets_one_increment_for_all(
    s3_server: S3Server, proxy: FaultProxy, tmp_path: Path
) -> None:
    """While no request is answered nothing is spooled; then one increment covers all of it."""
    (tmp_path / "host").mkdir()
    store = s3_server.settings_of_new_bucket()
    followed = Followed.in_bucket(tmp_path / "host", s3_server, proxy.settings(store))
    with followed.serving() as app:
        proxy.on(drop())
        before = followed.oracle.newest()
        with Load(followed.installation) as load:
            eventually(lambda: load.written > 500, "some seconds of load", seconds=60)
            proxy.wait_until_met(3)
        followed.put("AWAY", "while the store was away")
        assert followed.oracle.newest() == before
        proxy.lift()
        point = followed.wait_until_stored("AWAY", "while the store was away")
        chained = [one for one in followed.oracle.points() if one.sequence > before.sequence]
        # One that was under way when the store went, and the one that covers the rest.
        assert sum(one.chain == point.chain and one.number > 0 for one in chained) <= 2
        is_true(followed, app, "NEWEST")


def test_two_hosts_with_one_instance_id_lose_nothing(s3_server: S3Server, tmp_path: Path) -> None:
    """A copied host follows beside the one that it was copied from: the rows of both are stored,
    no object of the one is taken for one of the other, and it is said."""
    first = followed_in(tmp_path / "host", s3_server)
    with first.serving():
        pass
    shutil.copytree(tmp_path / "host", tmp_path / "copy")
    settings = {
        name: value.replace(str(tmp_path / "host"), str(tmp_path / "copy"))
        for name, value in first.installation.settings.items()
    }
    second = Followed(Installation(tmp_path / "copy", settings), first.oracle)
    with AppProcess.start(first.installation) as one, AppProcess.start(second.installation) as two:
        for number in range(3):
            first.put(f"FIRST_{number}", "of the first")
            second.put(f"SECOND_{number}", "of the second")
            for followed, name in ((first, "FIRST"), (second, "SECOND")):
                key = f"{name}_{number}"
                eventually(
                    lambda followed=followed, key=key: _anywhere(followed, key),  # type: ignore[misc]
                    f"{key} is stored",
                    seconds=60,
                )
        problems = [
            entry["code"]
            for followed, app in ((first, one), (second, two))
            for kind in ("problems", "warnings")
            for entry in followed.status(app)[kind]
        ]
    assert problems, "somebody has to be told"
    assert ChainOracle(_bucket(s3_server, first), TOKEN_ENCRYPTION_KEY).check() > 0


def _anywhere(followed: Followed, key: str) -> bool:
    """Whether one of the newest points of any chain has the token."""
    newest = {one.set_id: one for one in followed.oracle.points()}
    return any(followed.value_at(point, key) is not None for point in newest.values())


def _bucket(server: S3Server, followed: Followed) -> S3Bucket:
    return S3Bucket(server.client(), followed.installation.settings["SPACES_BUCKET"])


def test_damage_is_red_at_once_and_its_remedy_brings_back_the_newest_row(
    s3_server: S3Server, tmp_path: Path
) -> None:
    """Not after ten minutes: no point is made of it, and what status says to type is enough."""
    followed = followed_in(tmp_path / "host", s3_server)
    with followed.serving() as app:
        is_true(followed, app, "kept")
        overwrite_leaf(followed.installation.tokens_path)

        (problem,) = eventually(lambda: followed.status(app)["problems"], "the damage is named")
        assert problem["code"] == "source_unreadable"
        assert "tokens.db) is damaged, and no point is made of it" in problem["message"]
        remedy = problem["hint"].partition("./bot backups ")[2].split()
        assert followed.installation.cli(*remedy).returncode == 0
        eventually(lambda: followed.status(app)["problems"] == [], "all is well again")
        is_true(followed, app, "after")
