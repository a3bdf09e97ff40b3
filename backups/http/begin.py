"""Starting what a request asks for: the same for the JSON routes and for the page."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from fastapi import Request

from backups.errors import ConfirmationMissing, no_second_place
from backups.model import BackupSet, Run
from backups.runs.run import StartedRun
from backups.service import BackupService
from backups.vocabulary.second import FIRST, SECOND

# In which place a request reads.
PlaceName = Literal["first", "second"]


def service_of(request: Request, place: PlaceName = FIRST) -> BackupService:
    """The service of the app, or that over its second place; raises `NoSecondPlace`."""
    service: BackupService | None = request.app.state.backups
    if place == SECOND:
        service = request.app.state.second
    if service is None:
        raise no_second_place()
    return service


def leave_running(request: Request, started: StartedRun) -> Run:
    """Let the app's thread for runs execute it, and return the run as it is now."""
    executor: ThreadPoolExecutor = request.app.state.executor
    executor.submit(started.execute)
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
