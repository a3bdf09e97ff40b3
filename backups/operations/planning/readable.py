"""Whether the app could read what is about to replace its data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from backups.model import ReadabilityCheck
from backups.runs.log_files import source_log
from shared.errors import CipherError, ValueUnreadable


def refuse_unreadable(checks: Mapping[str, ReadabilityCheck], files: Mapping[str, Path]) -> None:
    """Data that no key of today opens must not replace data that one may open.

    A sample is enough: the drill opens every value, and a bad day has no time for it.
    Raises `CipherError`, `ValueUnreadable`.
    """
    for name, path in files.items():
        check = checks.get(name)
        report = check(path) if check else None
        if report is None or not report.unreadable:
            continue
        if report.unreadable == report.rows:
            if report.about:
                raise ValueUnreadable(
                    f"none of {report.rows} sampled values of {name} can be read: "
                    f"{report.about}. Nothing was touched",
                    "Restore another set: ./bot backups list. With this one: --to DIR.",
                )
            raise CipherError(
                f"the current keys decrypt none of {report.rows} sampled values of {name}. "
                "Nothing was touched",
                "Add the key that encrypted them to TOKEN_ENCRYPTION_KEYS, after the "
                "first, then restore again. Without keys: restore --to DIR.",
            )
        source_log(name).warning(
            "%d of %d sampled values cannot be read: %s",
            report.unreadable,
            report.rows,
            report.about or "the current keys do not decrypt them",
        )
