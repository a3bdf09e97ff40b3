"""Starting what a request asks for: the same for the JSON routes and for the page."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import datetime

from fastapi import Request
from fastapi.exceptions import RequestValidationError

from backups.errors import ConfirmationMissing, no_second_place
from backups.model import BackupSet, PlaceName, Run
from backups.runs.run import StartedRun
from backups.service import BackupService
from backups.vocabulary.second import FIRST, SECOND
from backups.wiring import open_second_service


def service_of(request: Request, place: PlaceName = FIRST) -> BackupService:
    """The service of the app, or that over its second place; raises `NoSecondPlace`."""
    service: BackupService | None = request.app.state.backups
    if place == SECOND:
        service = request.app.state.second
    if service is None:
        raise no_second_place()
    return service


@contextmanager
def service_as_of(
    request: Request, place: PlaceName, stored_before: datetime | None
) -> Iterator[BackupService]:
    """That of `service_of`; with `stored_before`, only what the second place had received then.

    Such a service lives as long as the block, and stops its run with the app. Raises what
    `service_of` does, and `RequestValidationError` for a time of the first place, which deletes.
    """
    service = service_of(request, place)
    if stored_before is None:
        yield service
        return
    if place != SECOND:
        fault = {"loc": ("stored_before",), "msg": 'needs "place" to be "second"'}
        raise RequestValidationError([fault])
    opened: set[BackupService] = request.app.state.opened_for_requests
    with open_second_service(request.app.state.settings, before=stored_before) as dated:
        opened.add(dated)
        try:
            yield dated
        finally:
            opened.discard(dated)


def leave_running(request: Request, started: StartedRun, needed: ExitStack | None = None) -> Run:
    """Let the app's thread for runs execute it, and return the run as it is now.

    What it needs, `needed`, is closed after it.
    """

    def execute() -> None:
        with needed or ExitStack():
            started.execute()

    executor: ThreadPoolExecutor = request.app.state.executor
    executor.submit(execute)
    return started.run


def begin_confirmed_restore(
    service: BackupService,
    set_id: str,
    only: str | None,
    confirmation: str,
    *,
    accept_unsigned: bool = False,
    check: bool | None = None,
) -> StartedRun:
    """Start a restore in place of what `restore.plan` shows, if its id was given as confirmation.

    Raises `ConfirmationMissing`, and what `restore.plan` and `restore.begin` raise.
    """
    plan = service.restore.plan(set_id, only=only, accept_unsigned=accept_unsigned)
    if confirmation != plan.backup_set.id:
        raise ConfirmationMissing(
            f"the restore of set {plan.backup_set.id} was not confirmed with its id",
            f'Read the plan (GET), then send {{"confirm": "{plan.backup_set.id}"}}.',
        )
    return service.restore.begin(plan, check=check)


def pin_confirmed(
    service: BackupService, set_id: str, confirmation: str, label: str | None
) -> BackupSet:
    """Pin a set with a label, or with None unpin it, if its id was given as confirmation.

    Raises `ConfirmationMissing`, and what `Pins` raises.
    """
    if confirmation != set_id:
        raise ConfirmationMissing(
            f"the pin of set {set_id} was not confirmed with its id",
            f'Send {{"confirm": "{set_id}"}}.',
        )
    return service.pins.unpin(set_id) if label is None else service.pins.pin(set_id, label)


def begin_confirmed_deletion(service: BackupService, set_id: str, confirmation: str) -> StartedRun:
    """Start deleting a set, if its id was given as confirmation.

    Raises `ConfirmationMissing`, and what `Delete.plan` and `Delete.begin` raise.
    """
    plan = service.delete.plan(set_id)
    if confirmation != plan.backup_set.id:
        raise ConfirmationMissing(
            f"the deletion of set {set_id} was not confirmed with its id",
            f'Send {{"confirm": "{plan.backup_set.id}"}}.',
        )
    return service.delete.begin(plan.backup_set.id)
