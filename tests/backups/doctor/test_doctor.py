"""The doctor: all is well, or each thing that is broken has its line and its remedy."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from backups.doctor import examine
from backups.model import Run
from backups.sets.seal import generate_key_pair
from backups.sources.room import RESERVE_BYTES
from backups.view.headline import headline
from backups.vocabulary.examination import Examination, Line
from backups.wiring import open_service
from shared.clock import SystemClock
from shared.databases.cipher import key_fingerprint
from shared.settings.load import Settings
from tests.support.app_process import free_port
from tests.support.bench import PREFIX, open_bench
from tests.support.clock import FixedClock
from tests.support.generations import (
    LiveStateName,
    bring_into,
    checkpoint,
    connect,
    live_path,
    write_generation,
)
from tests.support.installation import (
    TOKEN_ENCRYPTION_KEY,
    Installation,
    installation_in,
    settings_of,
    spaces,
)
from tests.support.s3_server import S3Server

SECRET, PUBLIC = generate_key_pair()
OTHER_SECRET, OTHER_PUBLIC = generate_key_pair()


def look(installation: Installation, *, write: bool = False) -> Examination:
    """Examine an installation in this process."""
    settings = settings_of(installation)
    with open_service(settings) as service:
        return examine(settings, service, write=write)


def lines(examination: Examination, level: str) -> list[Line]:
    """The lines of a level; each problem and warning has its remedy."""
    found = [line for line in examination.lines if line.level == level]
    assert level == "ok" or all(line.hint for line in found)
    return found


def one(examination: Examination, level: str, subject: str, text: str) -> Line:
    """The one line of this level and subject that has `text` in it."""
    found = [
        line
        for line in lines(examination, level)
        if line.subject == subject and text in line.message
    ]
    assert len(found) == 1, [(line.level, line.subject, line.message) for line in examination.lines]
    return found[0]


@pytest.fixture
def well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installation:
    """An installation that has a set from this minute, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    installation = installation_in(tmp_path)
    with open_bench(tmp_path, settings={}, clock=SystemClock()) as bench:
        bench.write("genlive")
        bench.made()
    return installation


@pytest.fixture
def in_bucket(
    tmp_path: Path, s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> Installation:
    """The same with its sets in a real bucket."""
    monkeypatch.chdir(tmp_path)
    settings = spaces(s3_server.settings(bucket))
    with open_bench(tmp_path, settings=settings, clock=SystemClock()) as bench:
        bench.write("genlive")
        bench.made()
    return installation_in(tmp_path, **settings)


def test_a_healthy_installation_is_all_ok(in_bucket: Installation, s3_server: S3Server) -> None:
    """With nothing wrong there is no problem, and every subject has been looked at."""
    s3_server.client().put_bucket_versioning(
        Bucket=in_bucket.settings["SPACES_BUCKET"],
        VersioningConfiguration={"Status": "Enabled"},
    )
    found = look(in_bucket, write=True)
    assert lines(found, "problem") == []
    assert {line.message for line in lines(found, "warning")} == {
        "no notification is sent when backups fail",
        "nobody has confirmed that the emergency kit (the token keys, and where the backups are) "
        "is kept elsewhere [kit_not_kept]",
    }
    assert found.healthy
    assert {line.subject for line in lines(found, "ok")} == {
        "secrets",
        "files",
        "databases",
        "disk",
        "keys",
        "store",
        "clock",
        "backups",
        "schedule",
    }
    one(found, "ok", "store", "versioning is on")
    one(found, "ok", "store", "cannot be read without credentials")
    one(found, "ok", "clock", "within")


def test_reading_changes_nothing(in_bucket: Installation, s3_server: S3Server) -> None:
    """Without `--write` the doctor puts and deletes nothing; with it, nothing is left."""
    bucket = in_bucket.settings["SPACES_BUCKET"]

    def keys() -> list[str]:
        return [o["Key"] for o in s3_server.client().list_objects_v2(Bucket=bucket)["Contents"]]

    before = keys()
    assert look(in_bucket).healthy
    assert keys() == before
    found = look(in_bucket, write=True)
    assert keys() == before
    one(found, "ok", "store", "stores objects, and does not overwrite them")
    one(found, "ok", "store", "deletes objects")


@pytest.mark.parametrize("name", ["tokens.db", "sessions.db", "backups", "backups/runs.db"])
def test_files_that_others_can_reach(well: Installation, name: str) -> None:
    """Each file with data that is open to other users is a problem with the right chmod."""
    path = well.folder / "data" / name
    settings = settings_of(well)
    with open_service(settings) as service:
        path.chmod(0o755 if path.is_dir() else 0o644)
        line = one(examine(settings, service), "problem", "files", str(path))
    assert line.hint == f"chmod {'700' if path.is_dir() else '600'} {path}"


def test_secrets_in_files_that_others_can_reach(well: Installation) -> None:
    """`.env` and the identity file are looked at too."""
    identity = well.folder / "identity"
    for path, content in ((well.folder / ".env", "A=b"), (identity, SECRET)):
        path.write_text(content)
        path.chmod(0o640)
    found = look(well.with_settings(BACKUP_AGE_IDENTITY_FILE=str(identity)))
    one(found, "problem", "files", ".env")
    assert one(found, "problem", "files", str(identity)).hint == f"chmod 600 {identity}"


def test_weak_and_missing_secrets(well: Installation) -> None:
    """A short or missing secret is a warning that says how to make one, and never shows it."""
    found = look(well.with_settings(ADMIN_TOKEN="a" * 40, STATE_TOKEN_SECRET="0123456789abcdefg"))
    for name in ("ADMIN_TOKEN", "STATE_TOKEN_SECRET"):
        assert "secrets.token_urlsafe" in one(found, "warning", "secrets", name).hint
    everything = " ".join(line.message + line.hint for line in found.lines)
    assert "aaaa" not in everything
    assert "0123456789abcdefg" not in everything
    settings = replace(settings_of(well), admin_token=None)
    with open_service(settings) as service:
        one(examine(settings, service), "warning", "secrets", "ADMIN_TOKEN is not set")


@pytest.mark.parametrize(
    "state", ["corrupt body", "corrupt header", "missing", "leftover", "zero bytes"]
)
def test_a_database_that_is_not_sound(well: Installation, state: LiveStateName) -> None:
    """A database in a bad state is a problem that names the command; the other is looked at too."""
    bring_into(state, live_path(well.folder, "tokens"))
    found = look(well)
    assert "restore --in-place --yes" in one(found, "problem", "databases", "tokens").hint
    one(found, "ok", "databases", "sessions")


def with_free_space(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    """Give every disk this many free bytes."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=free, total=free + 1))


def needed_by(found: Examination, work: str) -> int:
    """What the doctor says that some work needs, on a disk that has too little."""
    message = one(found, "problem", "disk", work).message
    return int(message.split("needs ")[1].split(", ")[0].replace(",", "").split()[0])


def test_no_room_on_the_disk(well: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for a backup and for a restore are told apart, to the byte, with the reserve."""
    with_free_space(monkeypatch, 0)
    found = look(well)
    for work in ("a backup", "a restore"):
        assert "as a reserve for the live databases" in one(found, "problem", "disk", work).message
        assert "BACKUP_DIR" in one(found, "problem", "disk", work).hint
        needed = needed_by(found, work)
        with_free_space(monkeypatch, needed - 1)
        one(look(well), "problem", "disk", work)
        with_free_space(monkeypatch, needed)
        one(look(well), "ok", "disk", work)


@pytest.mark.parametrize("work", ["a backup", "a restore"])
def test_doctor_and_command_agree_on_the_room(
    well: Installation, monkeypatch: pytest.MonkeyPatch, work: str
) -> None:
    """With the last byte that it needs both say yes, without it both say no, by one number."""
    settings = settings_of(well)
    with closing(connect(live_path(well.folder, "tokens"))) as writer, open_service(settings) as it:
        # What is committed and only in the `-wal` takes room in the copy as well.
        writer.execute("PRAGMA wal_autocheckpoint=0")
        writer.execute("CREATE TABLE more(body BLOB)")
        writer.execute("INSERT INTO more VALUES (zeroblob(300000))")

        def run() -> Run:
            if work == "a backup":
                return it.backup.begin().execute()
            return it.restore.begin(it.restore.plan()).execute()

        with_free_space(monkeypatch, 0)
        needed = needed_by(examine(settings, it), work)
        assert needed > RESERVE_BYTES + 300_000

        with_free_space(monkeypatch, needed - 1)
        line = one(examine(settings, it), "problem", "disk", work)
        refused = run()
        assert refused.error is not None
        assert refused.error.code == "disk_full"
        for message in (line.message, refused.error.message):
            assert f"{needed - 1:,} bytes free" in message
            assert f"needs {needed:,}" in message

        with_free_space(monkeypatch, needed)
        one(examine(settings, it), "ok", "disk", work)
        assert run().status == "succeeded"


def test_an_unreachable_store(well: Installation) -> None:
    """A store that does not answer is a problem with its code, and the rest is looked at."""
    found = look(
        well.with_settings(
            SPACES_API_KEY="key",
            SPACES_API_SECRET="secret",
            SPACES_REGION="us-east-1",
            SPACES_BUCKET="bucket",
            SPACES_ENDPOINT=f"http://127.0.0.1:{free_port()}",
        )
    )
    one(found, "problem", "store", "store_unreachable")
    assert lines(found, "ok")[-1].subject == "schedule"


def test_the_embedded_store_is_not_offsite(well: Installation) -> None:
    """Backups on this host's own disk are a warning."""
    assert "SPACES_" in one(look(well), "warning", "store", "not offsite").hint


def test_an_object_that_is_gone(well: Installation) -> None:
    """A restore point whose objects the store has lost is a problem by name."""
    with open_bench(well.folder, settings={}, clock=SystemClock()) as bench:
        latest = bench.service.catalogue.latest()
        assert latest is not None
        bench.store.delete(latest.objects[0].key)
    line = one(look(well), "problem", "store", latest.id)
    assert "1 restore point" in line.message
    assert "accept --missing" in line.hint


@contextmanager
def stranger_sees(settings: Settings, status: int, date: str) -> Iterator[Settings]:
    """Settings under which a request without credentials gets this status and `Date`."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            assert self.headers.get("Authorization") is None
            self.send_response_only(status)
            if date:
                self.send_header("Date", date)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
            """The test says what it wants to know."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    assert settings.spaces is not None
    endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield replace(settings, spaces=replace(settings.spaces, endpoint=endpoint))
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def date_in(**difference: float) -> str:
    """The HTTP date that much from now."""
    return format_datetime(datetime.now(UTC) + timedelta(**difference), usegmt=True)


def seen_by_a_stranger(installation: Installation, status: int, date: str) -> Examination:
    """The examination when a request without credentials is answered so."""
    settings = settings_of(installation)
    with open_service(settings) as service, stranger_sees(settings, status, date) as seen:
        return examine(seen, service)


def test_a_bucket_that_everybody_can_read(in_bucket: Installation) -> None:
    """An object that is served without credentials is a problem, and says what to do at once."""
    found = seen_by_a_stranger(in_bucket, 200, date_in())
    assert "rotate" in one(found, "problem", "store", "can be read by anybody").hint
    found = seen_by_a_stranger(in_bucket, 403, date_in())
    one(found, "ok", "store", "cannot be read without credentials (403)")


@pytest.mark.parametrize(
    ("difference", "level"),
    [
        ({"seconds": 30}, "ok"),
        ({"minutes": 5}, "warning"),
        ({"minutes": -5}, "warning"),
        ({"hours": 1}, "problem"),
        ({"days": -400}, "problem"),
    ],
)
def test_clock_skew(in_bucket: Installation, difference: dict[str, float], level: str) -> None:
    """A clock that differs from the store's is a warning, and far off a problem."""
    one(seen_by_a_stranger(in_bucket, 403, date_in(**difference)), level, "clock", "s")


@pytest.mark.parametrize("date", ["", "not a date", "Sun, 22 Nov 2026 12:00:00 -0000"])
def test_a_date_that_says_nothing(in_bucket: Installation, date: str) -> None:
    """A store without a usable `Date` does not stop the examination."""
    found = seen_by_a_stranger(in_bucket, 403, date)
    assert lines(found, "ok")[-1].subject == "schedule"


def test_a_store_that_does_not_answer_strangers(in_bucket: Installation) -> None:
    """That the question could not be asked is a warning, no all-clear."""
    settings = settings_of(in_bucket)
    assert settings.spaces is not None
    closed = replace(settings.spaces, endpoint=f"http://127.0.0.1:{free_port()}")
    with open_service(settings) as service:
        found = examine(replace(settings, spaces=closed), service)
    one(found, "warning", "store", "could not check whether the bucket is private")


def test_versioning_that_is_off(in_bucket: Installation) -> None:
    """A bucket without versioning is a warning with the command."""
    assert "put-bucket-versioning" in one(look(in_bucket), "warning", "store", "versioning").hint


def test_a_store_that_overwrites(well: Installation) -> None:
    """The write probe notices a store that does not honour conditional puts, and leaves nothing."""
    from io import BytesIO  # noqa: PLC0415

    from tests.support.store_wrappers import WatchedStore  # noqa: PLC0415

    class Overwriting(WatchedStore):
        def check(self, key: str, body: bytes) -> None:
            self.delete(key)
            self.put(key, BytesIO(body), {})

    settings = settings_of(well)
    with open_service(settings) as service:
        service.store = Overwriting(service.store)
        found = examine(settings, service, write=True)
        assert "If-None-Match" in one(found, "problem", "store", "replaced the first").hint
        assert not list(service.store.list(f"{PREFIX}doctor/"))


def test_an_identity_that_does_not_open_what_is_sealed(well: Installation) -> None:
    """A wrong identity is a problem, a malformed one too, the right one is ok, none a warning."""
    identity = well.folder / "identity"
    identity.touch(0o600)
    sealed = well.with_settings(
        BACKUP_AGE_RECIPIENTS=PUBLIC, BACKUP_AGE_IDENTITY_FILE=str(identity)
    )
    identity.write_text(OTHER_SECRET)
    one(look(sealed), "problem", "keys", "decrypts for BACKUP_AGE_RECIPIENTS")
    identity.write_text("nonsense")
    one(look(sealed), "problem", "keys", "key_malformed")
    identity.write_text(SECRET)
    one(look(sealed), "ok", "keys", "identity is on this host")
    without = look(well.with_settings(BACKUP_AGE_RECIPIENTS=PUBLIC))
    assert "drill --identity FILE" in one(without, "warning", "keys", "not on this host").hint


def test_backups_that_are_old(well: Installation) -> None:
    """What status calls a problem is one for the doctor too."""
    settings = settings_of(well)

    class InAWeek(SystemClock):
        def now(self) -> datetime:
            return super().now() + timedelta(days=7)

    with open_service(settings, InAWeek()) as service:
        found = examine(settings, service)
    one(found, "problem", "backups", "[overdue]")
    one(found, "ok", "backups", "the newest restore point")


@pytest.mark.parametrize(
    ("later", "age"),
    [
        (timedelta(seconds=3, microseconds=123456), "0 min 3 s"),
        (timedelta(hours=1, minutes=12), "1 h 12 min"),
        (timedelta(days=7), "7 days"),
        (timedelta(minutes=-4), "0 min 0 s"),  # clocks differ by as much
    ],
)
def test_the_age_reads_as_in_status(well: Installation, later: timedelta, age: str) -> None:
    """The doctor tells the age of the newest restore point in the words of the headline."""
    settings = settings_of(well)
    with open_service(settings) as service:
        newest = service.own_sets.latest()
    assert newest is not None
    clock = FixedClock(newest.created_at + later)
    with open_service(settings, clock) as service:
        line = one(examine(settings, service), "ok", "backups", "the newest restore point")
        first = headline(service.status(), clock.now())
    assert line.message == f"the newest restore point, {newest.id}, is {age} old"
    overdue = later == timedelta(days=7)
    assert overdue or f"is {age} old" in first.message


def test_a_lost_token_key(well: Installation) -> None:
    """The newest restore point is held against today's token keys."""
    from cryptography.fernet import Fernet  # noqa: PLC0415

    key = Fernet.generate_key().decode()
    write_generation(well.folder, "gennew", key=key)
    found = look(well.with_settings(TOKEN_ENCRYPTION_KEYS=key))
    one(found, "warning", "backups", "[mark_key_unknown]")
    assert (
        key_fingerprint(TOKEN_ENCRYPTION_KEY)
        in one(found, "problem", "backups", "[token_key_lost]").hint
    )


@pytest.mark.slow
def test_exit_codes(well: Installation) -> None:
    """0 when nothing is a problem, 3 when something is, and the JSON says the same."""
    assert well.cli("doctor").returncode == 0
    assert well.json("doctor")["healthy"] is True
    live_path(well.folder, "tokens").chmod(0o644)
    done = well.cli("doctor")
    assert done.returncode == 3
    assert "chmod 600" in done.stdout
    document = well.json("doctor", "--write", exit_code=3)
    assert document["healthy"] is False
    assert {tuple(line) for line in document["lines"]} == {("level", "subject", "message", "hint")}


def test_each_database_that_cannot_be_opened_is_reported(well: Installation) -> None:
    """A database that nobody can open and one of zero bytes are both named, with what to do, and
    the disk and the store are looked at too."""
    tokens, sessions = (live_path(well.folder, source) for source in ("tokens", "sessions"))
    checkpoint(tokens)
    tokens.unlink()
    tokens.mkdir()
    bring_into("zero bytes", sessions)
    found = look(well)
    assert "may read and write" in one(found, "problem", "databases", "source tokens").hint
    empty = one(found, "problem", "databases", "source sessions")
    assert "has 0 bytes" in empty.message
    assert "restore --in-place --yes" in empty.hint
    assert "corrupt" not in " ".join(line.message for line in found.lines)
    one(found, "ok", "disk", "a backup")
    one(found, "ok", "store", "reached")


def test_a_locked_database_does_not_hide_the_next(well: Installation) -> None:
    """A database that another program has locked is reported as locked, and the next is read."""
    with (
        open_bench(well.folder, settings={}, clock=SystemClock(), busy_timeout=0.1) as bench,
        closing(connect(bench.tokens)) as other,
    ):
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        found = examine(settings_of(well), bench.service)
    problem = one(found, "problem", "databases", "source tokens")
    assert "is locked by another connection" in problem.message
    one(found, "ok", "databases", "sessions")


def test_files_that_cannot_be_reached_are_each_a_line(well: Installation) -> None:
    """A path that nobody can follow does not end the look at the files: the next are named."""
    tokens = live_path(well.folder, "tokens")
    checkpoint(tokens)
    tokens.unlink()
    tokens.symlink_to("x" * 300)
    found = look(well)
    assert one(found, "problem", "files", "cannot be reached")
    one(found, "ok", "files", "sessions.db is private")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, None),
        (
            {"BACKUP_CHANGE_DELAY": "60"},
            "BACKUP_CHANGE_DELAY=60: a change is stored within a minute",
        ),
        ({"BACKUP_CHANGE_DELAY": "10"}, "BACKUP_CHANGE_DELAY=10: a change is stored within 10 s"),
        (
            {"BACKUP_CHANGE_DELAY": "10", "BACKUP_FOLLOW": "off"},
            "BACKUP_CHANGE_DELAY=10: a change is stored within a minute",
        ),
        ({"BACKUP_CHANGE_DELAY": "60", "BACKUP_RUN_BY": "cron"}, None),
        ({"BACKUP_CHANGE_DELAY": "0"}, None),
    ],
)
def test_a_delay_that_makes_points_rare_is_said(
    well: Installation, settings: dict[str, str], said: str | None
) -> None:
    """With the figure that comes of it, here and on the page."""
    found = look(well.with_settings(**{"BACKUP_RUN_BY": "app", **settings}))
    messages = [line.message for line in lines(found, "ok") if line.subject == "changes"]
    assert messages == ([said] if said else [])
