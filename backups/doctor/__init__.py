"""Examining everything that can be wrong with the backups, each finding with its remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from backups.doctor import host
from backups.doctor.second import check_second
from backups.doctor.store import check_store
from backups.service import BackupService
from backups.view import units
from backups.view.headline import change_delay_note
from backups.vocabulary.examination import Examination, Line
from shared.clock import format_utc
from shared.errors import AppError
from shared.settings.load import Settings
from shared.words import counted


def examine(
    settings: Settings, service: BackupService, *, write: bool = False, notify: bool = False
) -> Examination:
    """Look at everything; with `write`, put, overwrite and delete a probe in the store too, with
    `notify`, send a test message.

    A check that itself fails becomes a problem with the error's remedy; nothing is raised.
    """
    checks: tuple[tuple[str, Callable[[], Iterator[Line]]], ...] = (
        ("secrets", lambda: host.secrets(settings)),
        ("files", lambda: host.files(settings, service)),
        ("databases", lambda: host.shared_database(service)),
        ("databases", lambda: host.databases(service)),
        ("disk", lambda: host.disk(service)),
        ("keys", lambda: host.keys(service)),
        ("store", lambda: check_store(settings, service, write=write)),
        ("second", lambda: check_second(settings, service, write=write)),
        ("backups", lambda: _backups(service)),
        ("notify", lambda: _notifications(settings, service, notify=notify)),
    )
    lines: list[Line] = []
    for subject, check in checks:
        try:
            lines.extend(check())
        except AppError as error:
            lines.append(Line("problem", subject, f"{error.message} [{error.code}]", error.hint))
        except OSError as error:
            lines.append(
                Line("problem", subject, f"{error.filename}: {error.strerror}", "Check that file.")
            )
    return Examination(tuple(lines))


def _notifications(settings: Settings, service: BackupService, *, notify: bool) -> Iterator[Line]:
    count = len(settings.backup.notify_urls)
    if not count:
        yield Line(
            "warning",
            "notify",
            "no notification is sent when backups fail",
            "Set BACKUP_NOTIFY_URLS (docs/settings.md), then: ./bot backups doctor --notify",
        )
    elif not notify:
        yield Line(
            "ok",
            "notify",
            f"{counted(count, 'URL')}; to test them: ./bot backups doctor --notify",
        )
    elif unreached := service.alerts.send_test_message():
        names = ", ".join(str(receiver) for receiver in unreached)
        yield Line(
            "problem",
            "notify",
            f"the test message did not reach {names} of BACKUP_NOTIFY_URLS",
            "Correct them; https://github.com/caronc/apprise lists their forms.",
        )
    else:
        yield Line("ok", "notify", f"a test message went to {counted(count, 'URL')}")


def _backups(service: BackupService) -> Iterator[Line]:
    status = service.status()
    for found in status.health.problems:
        yield Line("problem", "backups", f"{found.message} [{found.code}]", found.hint)
    for found in status.health.warnings:
        if found.code != "not_offsite":
            yield Line("warning", "backups", f"{found.message} [{found.code}]", found.hint)
    newest = status.newest_restore_point
    if newest is not None:
        age = units.age(service.clock.now() - newest.holds_until)
        yield Line("ok", "backups", f"the newest restore point, {newest.id}, is {age} old")
    yield Line("ok", "schedule", f"{status.cron} UTC, next at {format_utc(status.next_run_at)}")
    config = service.config
    if note := change_delay_note(config.change_delay, config.stores_changes_within):
        yield Line("ok", "changes", note)
