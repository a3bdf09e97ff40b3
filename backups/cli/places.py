"""The second place in the commands: which place a command means, and copying to the second."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from backups.cli.output import print_json, show
from backups.model import BackupSet
from backups.operations.own_sets import LATEST
from backups.service import BackupService
from backups.view import documents
from backups.view.second import texts as view
from backups.vocabulary.second import FIRST, SECOND
from backups.wiring import open_second_service
from shared.clock import format_utc
from shared.errors import AppError, StoreError
from shared.settings.load import Settings

# The commands that read from either place.
CAN_READ_SECOND = ("list", "verify", "drill", "restore")


def add_place(
    parsers: Iterable[argparse.ArgumentParser], time: Callable[[str], object], form: str
) -> None:
    """The options of each that say from which place a command reads."""
    for parser in parsers:
        parser.add_argument(
            "--place",
            choices=(FIRST, SECOND),
            help="first: the store; second: the bucket of the COPY_ settings. By default the store;"
            " for `restore` the second where that has the newer point, or the store is away",
        )
        parser.add_argument(
            "--stored-before",
            type=time,
            metavar="TIME",
            help=f"with --place second: only what that place received before this time: {form}",
        )


def add_copy(parser: argparse.ArgumentParser) -> None:
    """The options of `copy`."""
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--all", action="store_true", help="all that the second place lacks; that is the default"
    )
    how.add_argument(
        "--check", action="store_true", help="compare the places by listing and by SHA-256"
    )


@contextmanager
def open_place(
    settings: Settings, service: BackupService, options: argparse.Namespace
) -> Iterator[BackupService]:
    """The service over the place that a command means; `service` is that of the first."""
    if options.name not in CAN_READ_SECOND or not _means_second(settings, service, options):
        yield service
        return
    with open_second_service(settings, before=options.stored_before) as second:
        yield second


def _means_second(settings: Settings, service: BackupService, options: argparse.Namespace) -> bool:
    if options.place is not None or options.name != "restore":
        return bool(options.place == SECOND)
    if settings.copy is None or options.undo or options.from_path is not None:
        return False
    return _second_is_better(settings, service, options)


def _second_is_better(
    settings: Settings, service: BackupService, options: argparse.Namespace
) -> bool:
    """Whether the first place is away, or lacks what is asked for, or has an older `latest`."""
    try:
        service.catalogue.refresh()
        first, why = _chosen(service, options), "the store has no such restore point"
    except StoreError as error:
        first, why = None, f"{error.message} [{error.code}]"
    try:
        with open_second_service(settings) as second:
            second.catalogue.refresh()
            found = _chosen(second, options)
    except StoreError as error:
        show(f"The second place cannot be asked: {error.message}\n{error.hint}", file=sys.stderr)
        return False
    if found is None or (first is not None and first.holds_until >= found.holds_until):
        return False
    if first is not None:
        why = (
            f"its newest point is from {format_utc(found.holds_until)}, that of the store from "
            f"{format_utc(first.holds_until)}"
        )
    show(
        f"From the second place ({second.store.location}): {why}.\n"
        "To take the store all the same: --place first",
        file=sys.stderr,
    )
    return True


def _chosen(service: BackupService, options: argparse.Namespace) -> BackupSet | None:
    try:
        if options.set != LATEST:
            return service.catalogue.get(options.set)
        return service.restore.newest(options.at, ask=False)
    except StoreError:
        raise
    except AppError:  # planning says it
        return None


def copy(service: BackupService, options: argparse.Namespace) -> int:
    """`copy`: bring the second place up to date, or compare the two."""
    second = service.need_second()
    if options.check:
        found = second.compare()
        if options.json:
            print_json(view.differences_document(found))
        else:
            show(view.differences(found, second.config.location))
        return 1 if found.missing or found.different else 0
    state, copied = second.copy()
    if options.json:
        print_json({**documents.copy_document(state), "copied": copied.copied})
    else:
        show(view.copied(state, copied.copied, copied.size, second.config.location))
    return 1 if state.waiting else 0
