"""A five-field crontab line, read in UTC: when it is due next, and when it was due last.

The fields mean what they mean to cron: weekdays 0 and 7 are Sunday. (APScheduler's own
`CronTrigger.from_crontab` counts 0 as Monday.)
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cronsim import CronSim, CronSimError


class Crontab:
    """When something is due.

    Raises `ValueError` for a line that is malformed, that is never due, or that restricts
    both the day of the month and the day of the week: cron means "either" by that, and
    most people mean "both".
    """

    def __init__(self, expression: str) -> None:
        self.expression = " ".join(expression.split())
        parts = self.expression.split(" ")
        if len(parts) != 5:
            raise ValueError(
                "a schedule has five fields: minute hour day-of-month month day-of-week"
            )
        if parts[2] != "*" and parts[4] != "*":
            raise ValueError("a schedule restricts the day of the month or of the week, not both")
        try:
            next(CronSim(self.expression, datetime(2000, 1, 1, tzinfo=UTC)))
        except CronSimError as error:
            raise ValueError(f"not a crontab schedule: {error}") from None
        except StopIteration:
            raise ValueError("this schedule is never due") from None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Crontab) and self.expression == other.expression

    def __hash__(self) -> int:
        return hash(self.expression)

    def __repr__(self) -> str:
        return f"Crontab({self.expression!r})"

    def next_after(self, instant: datetime) -> datetime:
        """The first due instant later than `instant`; the end of time when none is before it."""
        try:
            return next(CronSim(self.expression, instant.astimezone(UTC)))
        except OverflowError:  # in the year 9999, which a clock or a bucket may name
            return datetime.max.replace(tzinfo=UTC)

    def last_until(self, instant: datetime) -> datetime:
        """The last due instant that is not later than `instant`."""
        before_the_end = datetime.max.replace(tzinfo=UTC) - timedelta(microseconds=1)
        just_after = min(instant.astimezone(UTC), before_the_end) + timedelta(microseconds=1)
        return next(CronSim(self.expression, just_after, reverse=True))
