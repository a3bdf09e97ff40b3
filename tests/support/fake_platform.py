"""`FakePlatform`: what the clients of both stand-ins can do: faults, and the record of calls."""

from __future__ import annotations

from typing import Any

from tests.fakes.asked import Call
from tests.support.fake_process import FakeProcess


class FakePlatform:
    """A running stand-in. An edge of "*" is every edge; `times=None` is until `clear_faults`."""

    def __init__(self, process: FakeProcess) -> None:
        self._process = process

    def hang(
        self,
        edge: str,
        seconds: float,
        *,
        times: int | None = 1,
        skip: int = 0,
        subject: str | None = None,
    ) -> None:
        """The answer is right, and late: after `seconds`, or with `clear_faults`.

        Like all faults it begins after `skip` calls that go well.
        """
        self._fault(edge, "hang", times=times, skip=skip, subject=subject, seconds=seconds)

    def answer_status(
        self,
        edge: str,
        status: int,
        *,
        headers: dict[str, str] | None = None,
        times: int | None = 1,
        skip: int = 0,
    ) -> None:
        """An HTML page with this status, as a proxy in between sends."""
        self._fault(edge, "status", times=times, skip=skip, status=status, headers=headers)

    def garbage(self, edge: str, *, times: int | None = 1, skip: int = 0) -> None:
        """Status 200 and something that is no JSON."""
        self._fault(edge, "garbage", times=times, skip=skip)

    def huge(self, edge: str, megabytes: float, *, times: int | None = 1, skip: int = 0) -> None:
        """Status 200 and a body of this size, without a content length."""
        self._fault(edge, "huge", times=times, skip=skip, megabytes=megabytes)

    def cut(self, edge: str, *, times: int | None = 1, skip: int = 0) -> None:
        """The connection ends in the middle of the body."""
        self._fault(edge, "cut", times=times, skip=skip)

    def redirect(self, edge: str, to: str, *, times: int | None = 1, skip: int = 0) -> None:
        """A 302 to another place."""
        self._fault(edge, "redirect", times=times, skip=skip, to=to)

    def clear_faults(self) -> None:
        """All is well again."""
        self._process.control("clear_faults")

    def faults_left(self) -> int:
        """How many faults are still to begin."""
        return int(self._process.control("faults_left"))

    def calls(self, edge: str | None = None) -> list[Call]:
        """The bot's requests so far, in the order in which they were answered.

        An edge of "graphql" is all of them, one of "graphql:products" those for products.
        """
        read = [Call(**one) for one in self._process.control("calls")]
        return [one for one in read if edge in (None, one.edge, one.edge.partition(":")[0])]

    def issued(self) -> list[str]:
        """All that nobody but the bot may know: tokens, proofs, codes, the app's secrets."""
        found: list[str] = self._process.control("issued")
        return found

    def clear_calls(self) -> None:
        """Forget them."""
        self._process.control("clear_calls")

    def _fault(
        self,
        edge: str,
        kind: str,
        *,
        times: int | None,
        skip: int,
        subject: str | None = None,
        **details: Any,
    ) -> None:
        self._process.control(
            "fault",
            edge=edge,
            kind=kind,
            times=times,
            skip=skip,
            subject=subject,
            details=details,
        )
