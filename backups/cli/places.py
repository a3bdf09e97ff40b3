"""The second place in the commands: which place a command means, and copying to the second."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from backups.cli.output import print_json, show
from backups.operations.second.choice import Place, why_second
from backups.service import BackupService
from backups.view.second import documents
from backups.view.second import texts as view
from backups.vocabulary.second import FIRST, SECOND
from backups.wiring import open_second_service
from shared.errors import StoreError
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
        with open_second_service(settings) as second:
            here = Place(service.catalogue, service.restore)
            there = Place(second.catalogue, second.restore)
            why = why_second(here, there, options.set, options.at)
            location = second.store.location
    except StoreError as error:
        show(f"The second place cannot be asked: {error.message}\n{error.hint}", file=sys.stderr)
        return False
    if why is None:
        return False
    show(
        f"From the second place ({location}): {why}.\n"
        "To take the store all the same: --place first",
        file=sys.stderr,
    )
    return True


def copy(service: BackupService, options: argparse.Namespace) -> int:
    """`copy`: bring the second place up to date, or compare the two."""
    second = service.need_second()
    if options.check:
        found = second.compare().and_these(second.compare_documents())
        if options.json:
            print_json(view.differences_document(found))
        else:
            show(view.differences(found, second.config.location))
        return 1 if found.missing or found.different or not found.compared else 0
    state, copied = second.copy()
    second.copy_documents(seconds=None)
    of_users = second.documents_state()
    if options.json:
        told = {"copied": copied.copied, "documents": documents.documents_document(of_users)}
        print_json({**documents.copy_document(state), **told})
    else:
        show(view.copied(state, copied.copied, copied.size, second.config.location, of_users))
    waits = of_users is not None and (
        of_users.waiting > of_users.too_large or of_users.error is not None
    )
    return 1 if state.waiting or waits else 0
