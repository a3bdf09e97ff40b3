"""While the first place is away, the second takes the sets; the first gets them when it is back."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from backups.errors import CopyInProgress
from backups.scheduling.copier import Copier
from backups.service import BackupService
from backups.sets.second.wanted import Copied
from backups.vocabulary.second import CopyState, StandIn
from backups.wiring import open_service, open_stand_in
from shared.errors import StoreError
from shared.store.spaces_versions import VersionedSpaces
from tests.backups.second.host import PREFIX, Host
from tests.support.clock import FixedClock
from tests.support.generations import SOURCES, generation_of, live_path, write_generation
from tests.support.installation import installation_in, settings_of
from tests.support.s3_server import S3Server
from tests.support.second import SecondBucket

pytestmark = pytest.mark.slow

HOUR = timedelta(hours=1)


class Away:
    """A host whose first place can go away; its clock stands still but for `after`."""

    def __init__(self, host: Host, clock: FixedClock) -> None:
        self.host = host
        self.clock = clock
        settings = settings_of(host.installation)
        self.copier = Copier(host.service, host.second, lambda: open_stand_in(settings, self.clock))
        self._store = host.installation.folder / "data" / "spaces"

    def after(self, span: timedelta) -> None:
        """So much later, one look."""
        self.clock.advance(seconds=span.total_seconds())
        self.copier.work()

    @contextmanager
    def away(self) -> Iterator[None]:
        """The first place cannot be reached."""
        beside = self._store.with_name("away")
        self._store.rename(beside)
        self._store.write_bytes(b"")  # no folder
        try:
            yield
        finally:
            self._store.unlink()
            beside.rename(self._store)

    def fail(self, generation: str) -> None:
        """These rows, and a backup that the first place does not take."""
        write_generation(self.host.installation.folder, generation)
        run = self.host.service.backup.begin().execute()
        assert run.error is not None

    def stand_in(self) -> StandIn | None:
        """What the second place has in place of the first."""
        return self.host.service.facts.second.stand_in(self.host.second.config.location)

    def codes(self) -> set[str]:
        """What status says now."""
        health = self.host.service.status().health
        return {one.code for one in (*health.problems, *health.warnings)}


@pytest.fixture
def away(tmp_path: Path, bucket: SecondBucket) -> Iterator[Away]:
    """With one set in both places."""
    clock = FixedClock()
    installation = installation_in(tmp_path, **bucket.environment(COPY_LOCK_DAYS="1"))
    with open_service(settings_of(installation), clock) as service:
        host = Host(installation, service, lambda: service)
        host.made("both")
        found = Away(host, clock)
        found.copier.work()
        yield found


def ids(service: BackupService) -> set[str]:
    """The sets that a service knows."""
    return {one.id for one in service.catalogue.sets()}


def test_a_week_without_the_first_place(away: Away, bucket: SecondBucket, tmp_path: Path) -> None:
    """Each hour's changes are in the second; amber, not red; then the first gets all of them."""
    host = away.host
    before = ids(host.service)
    with away.away():
        away.clock.advance(days=1)
        away.fail("day 1")
        away.after(timedelta(minutes=1))
        assert "last_run_failed" in away.codes()  # for the first hour nothing has it
        away.after(HOUR)
        assert "first_place_away" in away.codes()
        assert "last_run_failed" not in away.codes()
        assert host.service.status().health.light == "amber"
        kept = host.second.store.list(f"{PREFIX}sets/")
        made = {one.key for one in kept if one.key.endswith("/manifest.json")}
        assert len(made) == 2
        day = [key for key in bucket.listed() if "_2026-11-23" in key]
        assert len(day) == 2  # the keys of the day may be taken where nobody can look
        assert all("_2026-11-23T" in key for key in day)
        away.after(HOUR)  # nothing has changed: no set, and still no problem
        assert len(list(host.second.store.list(f"{PREFIX}sets/"))) == 2
        assert "first_place_away" in away.codes()
        write_generation(host.installation.folder, "day 2")
        away.after(HOUR)
        assert len(list(host.second.store.list(f"{PREFIX}sets/"))) == 3
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        other = installation_in(elsewhere, **bucket.environment())
        other = other.with_settings(
            BACKUP_LOCAL_STORE=str(host.installation.folder / "data/spaces")
        )
        done = other.cli("restore", "--place", "second", "--in-place", "--yes")
        assert done.returncode == 0, done.stderr
        assert {generation_of(live_path(elsewhere, source)) for source in SOURCES} == {"day 2"}
    away.after(timedelta(minutes=1))
    assert len(ids(host.service) - before) == 2
    assert away.stand_in() is None
    runs, _ = host.service.list_runs(100)
    assert [(one.status, one.place) for one in runs if one.set_id not in before][-3:] == [
        ("succeeded", "second"),
        ("succeeded", "second"),
        ("failed", "first"),
    ]
    newest = max(ids(host.service))
    assert host.second.compare().missing == ()
    assert host.service.verify.begin(newest).execute().error is None


def test_the_host_dies_while_the_first_place_is_away(
    away: Away, bucket: SecondBucket, tmp_path: Path
) -> None:
    """A new one is restored from the second place; the first, when it is back, gets what led there.

    Nothing comes back that was deleted, or pruned.
    """
    host = away.host
    deleted, pruned = host.made("deleted"), host.made("pruned")
    newest = host.made("newest")
    host.second.copy()
    host.service.delete.begin(deleted.id).execute()
    host.second.copy()
    for key in [one.key for one in pruned.objects] + [f"{PREFIX}sets/{pruned.id}/manifest.json"]:
        host.service.store.delete(key)
    store = host.installation.folder / "data" / "spaces"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    other = installation_in(
        elsewhere, **bucket.environment(COPY_LOCK_DAYS="1"), BACKUP_LOCAL_STORE=str(store)
    )
    with away.away():
        away.clock.advance(days=1)
        away.fail("day 1")
        away.after(timedelta(minutes=1))
        away.after(HOUR)
        write_generation(host.installation.folder, "day 2")
        away.after(HOUR)
        made = {one.set_id for one in host.service.list_runs(100)[0] if one.place == "second"}
        assert len(made) == 2
        done = other.cli("restore", "--in-place", "--yes")
        assert done.returncode == 0, done.stderr
        assert {generation_of(live_path(elsewhere, source)) for source in SOURCES} == {"day 2"}
        settings = settings_of(other)
        with open_service(settings, away.clock) as service:
            copier = Copier(
                service, service.need_second(), lambda: open_stand_in(settings, away.clock)
            )
            copier.work()  # nothing yet
    away.clock.advance(minutes=1)
    with open_service(settings, away.clock) as service:
        copier = Copier(service, service.need_second(), lambda: open_stand_in(settings, away.clock))
        copier.work()
        service.catalogue.refresh()
        found = ids(service)
        assert made <= found
        assert newest.id in found
        assert not {deleted.id, pruned.id} & found
        assert service.need_second().compare().missing == ()
        for set_id in made:
            assert service.verify.begin(set_id).execute().error is None


def test_neither_place_is_red(away: Away) -> None:
    """Where the second place takes nothing either, status says what it said of the first."""
    with away.away():
        away.clock.advance(days=1)
        away.fail("lost")
        away.after(HOUR + timedelta(minutes=1))
        away.after(HOUR + timedelta(minutes=1))
        assert "first_place_away" in away.codes()
        away.clock.advance(hours=5)  # the app does not look any more
        assert "first_place_away" not in away.codes()
        assert "last_run_failed" in away.codes()
        assert host_is_red(away)


def test_a_stand_in_that_fails_is_tried_again_later(
    away: Away, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not with each look: every try copies and checks all the data."""

    def refuse(*_: object, **__: object) -> None:
        raise StoreError("full", "Make room.")

    monkeypatch.setattr(VersionedSpaces, "put", refuse)
    with away.away():
        away.clock.advance(days=1)
        away.fail("lost")
        away.after(timedelta(minutes=1))
        away.after(HOUR)
        for _ in range(8):
            away.after(timedelta(seconds=20))

        def tries() -> int:
            return len([one for one in away.host.service.list_runs(99)[0] if one.place == "second"])

        assert tries() == 1
        away.after(timedelta(minutes=5))
        assert tries() == 2


def host_is_red(away: Away) -> bool:
    """The light."""
    return away.host.service.status().health.light == "red"


def test_a_short_outage_makes_no_set(away: Away, bucket: SecondBucket) -> None:
    """It is over before an hour has passed: the first place has the set then."""
    before = len(bucket.versions())
    with away.away():
        away.clock.advance(days=1)
        away.fail("soon")
        away.after(timedelta(minutes=10))
    away.after(timedelta(minutes=10))
    assert away.stand_in() is None
    assert len(bucket.versions()) == before


def test_another_bucket_does_not_stand_for_the_one_that_has_the_sets(
    away: Away, s3_server: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    """The settings name another second place before the first has got its sets: nobody says that it
    has, and it gets them once they are named again."""
    host = away.host
    with away.away():
        away.clock.advance(days=1)
        away.fail("day 1")
        away.after(timedelta(minutes=1))
        away.after(HOUR)
    stood_in = away.stand_in()
    assert stood_in is not None
    assert stood_in.sets
    other = SecondBucket.new(s3_server)
    moved = host.installation.with_settings(**other.environment())
    with open_service(settings_of(moved), away.clock) as service:
        copier = Copier(service, service.need_second(), lambda: open_stand_in(settings_of(moved)))
        copier.work()
        assert "first_place_away" not in {one.code for one in service.status().health.warnings}
    assert "did not get are in" in caplog.text
    assert not set(stood_in.sets) & ids(host.service)
    away.after(timedelta(minutes=1))
    assert set(stood_in.sets) <= ids(host.service)
    assert away.stand_in() is None


def test_what_did_not_come_back_is_not_said_to_be_back(away: Away) -> None:
    """The second place has lost it, or shows it no more: it is named, and tried again."""
    with away.away():
        away.clock.advance(days=1)
        away.fail("day 1")
        away.after(timedelta(minutes=1))
        away.after(HOUR)
    with pytest.raises(StoreError, match="20200101T000000Z did not come back"):
        away.host.second.bring_back(["20200101T000000Z"])
    with away.host.second._lease(), pytest.raises(CopyInProgress):
        away.host.second.bring_back(["20200101T000000Z"])


def test_a_set_that_came_back_can_be_deleted(away: Away) -> None:
    """With all that is stored of it: its objects say whose they are."""
    host = away.host
    with away.away():
        away.clock.advance(days=1)
        away.fail("day 1")
        away.after(timedelta(minutes=1))
        away.after(HOUR)
    before = set(host.keys())
    away.after(timedelta(minutes=1))
    came = set(host.keys()) - before
    (made,) = {key.split("/")[2] for key in came if key.startswith(f"{PREFIX}sets/")}
    away.clock.advance(hours=1)
    host.made("day 2")
    run = host.service.delete.begin(made).execute()
    assert run.error is None
    assert [key for key in came & set(host.keys()) if "/deleted-" not in key] == []


def test_what_waits_is_tried_again_before_copy_every(
    away: Away, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After half a minute; and a new set does not wait for what is refused."""
    host, calls = away.host, list[datetime]()
    copy = host.second.copy

    def counted() -> tuple[CopyState, Copied]:
        calls.append(away.clock.now())
        return copy()

    monkeypatch.setattr(host.second, "copy", counted)
    away.clock.advance(seconds=5)
    broken = host.made("broken")
    body = io.BytesIO()
    host.service.store.get(broken.objects[0].key, body)
    host.service.store.delete(broken.objects[0].key)
    away.after(timedelta(seconds=1))
    away.after(timedelta(seconds=20))
    assert len(calls) == 1
    away.after(timedelta(seconds=15))
    assert len(calls) == 2
    host.made("good")
    away.after(timedelta(seconds=1))
    assert len(calls) == 3
    host.service.store.put(broken.objects[0].key, io.BytesIO(body.getvalue()), {})
    away.after(HOUR)
    state = host.second.state()
    assert (len(calls), state and state.waiting) == (4, 0)


def test_a_deletion_and_what_is_set_aside_go_at_once(away: Away) -> None:
    """Not after COPY_EVERY only: until then the second place shows a set that is none any more."""
    host = away.host
    (first,) = ids(host.service)
    away.clock.advance(seconds=5)
    host.made("newer")
    away.after(timedelta(seconds=1))
    assert host.service.delete.begin(first).execute().error is None
    assert first in ids_there(host)
    away.after(timedelta(seconds=1))
    assert first not in ids_there(host)


def ids_there(host: Host) -> set[str]:
    """The sets of the second place, as this host knows it."""
    return {one.id for one in host.second.catalogue.sets()}


def test_a_clock_that_was_ahead_ends_no_standing_in(away: Away, bucket: SecondBucket) -> None:
    """The last set lies in the future, by a clock that was set back: the next one does not wait."""
    host = away.host
    with away.away():
        away.clock.advance(days=1)
        away.fail("day 1")
        away.after(timedelta(minutes=1))
        away.after(HOUR)
        stood_in = away.stand_in()
        assert stood_in is not None
        ahead = replace(stood_in, last_at=away.clock.now() + timedelta(days=365))
        host.service.facts.second.note_stand_in(ahead, host.second.config.location)
        assert "first_place_away" not in away.codes()
        write_generation(host.installation.folder, "day 2")
        away.after(timedelta(minutes=1))
        again = away.stand_in()
        assert again is not None
        assert len(again.sets) == len(stood_in.sets) + 1
        assert "first_place_away" in away.codes()
