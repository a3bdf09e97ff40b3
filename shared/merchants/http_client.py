"""`Outbound`: requests to the platforms, with limits on time and size, and patience."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from shared.merchants.errors import PlatformBusy, PlatformUnreachable
from shared.process.lasting_work import beat

if TYPE_CHECKING:
    import httpx2
    from tenacity import RetryCallState

T = TypeVar("T")

_LONGEST_WAIT_SECONDS = 60.0

# Someone is looking at a browser.
ATTEMPTS_WHILE_WATCHED = 2
ATTEMPTS = 6


@dataclass(frozen=True)
class Limits:
    """What an answer may take: seconds to connect, of silence, and in all; and bytes."""

    connect: float = 10.0
    silence: float = 20.0
    whole_answer: float = 60.0
    most_bytes: int = 32 * 1024 * 1024

    def within(self, other: Limits) -> Limits:
        """The narrower of both."""
        return Limits(
            min(self.connect, other.connect),
            min(self.silence, other.silence),
            min(self.whole_answer, other.whole_answer),
            min(self.most_bytes, other.most_bytes),
        )


@dataclass(frozen=True)
class Answer:
    """A complete answer, whatever its status; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def document(self) -> dict[str, Any]:
        """The JSON object in it; raises `PlatformUnreachable` for anything else."""
        try:
            found = json.loads(self.body)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise PlatformUnreachable(
                f"the answer ({self.status}) is not a JSON object", "The app will retry."
            )
        return found

    def retry_after(self) -> float | None:
        """In how many seconds the sender wants to be asked again, if it says so."""
        told = self.headers.get("retry-after", "")
        return float(told) if re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", told) else None


# For the work on the inbox: what fails comes again, and others wait for the thread.
SHORT = Limits(connect=3.0, silence=5.0, whole_answer=10.0)
_is_short: ContextVar[bool] = ContextVar("one_short_try", default=False)
# For the daily polling: who does not answer is asked again after all the others.
SOON = Limits(connect=5.0, silence=10.0, whole_answer=30.0)
_TRIES_WITHOUT_AN_ANSWER = 2
_is_soon_given_up: ContextVar[bool] = ContextVar("soon_given_up", default=False)


@contextmanager
def one_short_try() -> Iterator[None]:
    """In this block each request has one try, and the limits of `SHORT`."""
    token = _is_short.set(True)
    try:
        yield
    finally:
        _is_short.reset(token)


@contextmanager
def soon_given_up() -> Iterator[None]:
    """In this block a platform that does not answer is asked twice, and for 10 s each time.

    One that answers that it is busy gets the patience that it always gets.
    """
    token = _is_soon_given_up.set(True)
    try:
        yield
    finally:
        _is_soon_given_up.reset(token)


def most_seconds_to_wait() -> float:
    """How long a request may wait for another one to the same account: not long in such a block."""
    return SHORT.silence if _is_short.get() else threading.TIMEOUT_MAX


class Outbound:
    """One HTTP client for all threads. Redirects are not followed; `close` it in the end."""

    def __init__(self, limits: Limits = Limits()) -> None:
        # Imported only here: most commands of this program never talk to a platform.
        import httpx2  # noqa: PLC0415

        self._limits = limits
        self._client = httpx2.Client(follow_redirects=False)
        self._closing = threading.Event()

    def send(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        document: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request; raises `PlatformUnreachable` without a complete answer in time."""
        beat()
        limits = self._limits_now()
        deadline = time.monotonic() + limits.whole_answer
        body = bytearray()
        with self._answering(
            limits,
            method,
            url,
            params=params,
            data=form,
            json=document,
            headers={"Accept": "application/json", **(headers or {})},
        ) as response:
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > limits.most_bytes or time.monotonic() > deadline:
                    raise _too_much(response)
            return Answer(response.status_code, dict(response.headers), bytes(body))

    def download(self, url: str, sink: BinaryIO, most_bytes: int) -> int:
        """Write what is at a URL to `sink`, however long that takes; the status of the answer.

        Nothing is written of a refusal. Raises `PlatformUnreachable` for an answer that is not
        complete, or has more than `most_bytes`.
        """
        limits, count = self._limits_now(), 0
        with self._answering(limits, "GET", url) as response:
            if response.status_code == 200:
                for chunk in response.iter_bytes():
                    beat()
                    count += len(chunk)
                    if count > most_bytes or self._closing.is_set():
                        raise _too_much(response)
                    sink.write(chunk)
            status: int = response.status_code
            return status

    def _limits_now(self) -> Limits:
        limits = SHORT if _is_short.get() else self._limits
        return limits.within(SOON) if _is_soon_given_up.get() else limits

    @contextmanager
    def _answering(
        self, limits: Limits, method: str, url: str, **request: Any
    ) -> Iterator[httpx2.Response]:
        """A request, and its answer while that arrives; raises `PlatformUnreachable`."""
        import httpx2  # noqa: PLC0415

        timeout = httpx2.Timeout(limits.silence, connect=limits.connect)
        try:
            with self._client.stream(method, url, timeout=timeout, **request) as response:
                yield response
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            # Their texts may hold the whole URL.
            raise PlatformUnreachable(
                f"no complete answer from {httpx2.URL(url).host} ({type(error).__name__})",
                "Check this host's network; the app will retry.",
            ) from None
        except RuntimeError:
            if not self._closing.is_set():
                raise
            raise _shutting_down() from None  # the client was closed before, or meanwhile

    def patiently(self, call: Callable[[], T], attempts: int = ATTEMPTS) -> T:
        """The result of `call`, tried again while the platform is busy or out of reach.

        Waits as long as the platform says, or twice as long each time. Raises the last error; one
        that asks for more than a minute at once, as nothing is asked before its time.
        """
        import tenacity  # noqa: PLC0415

        return tenacity.Retrying(
            sleep=self.pause,
            stop=lambda state: state.attempt_number >= _most_tries(state, attempts),
            wait=_wait,
            retry=tenacity.retry_if_exception(_passes_soon),
            reraise=True,
        )(call)

    def close(self) -> None:
        """End all waiting, and close the connections."""
        self._closing.set()
        self._client.close()

    def pause(self, seconds: float) -> None:
        """Return after so many seconds; raises `PlatformUnreachable` when the program ends."""
        if self._closing.wait(seconds):
            raise _shutting_down()


def _too_much(response: httpx2.Response) -> PlatformUnreachable:
    return PlatformUnreachable(f"the answer of {response.url.host} is too large or too slow")


def _shutting_down() -> PlatformUnreachable:
    return PlatformUnreachable("the program is shutting down", "The app will retry.")


def _passes_soon(error: BaseException) -> bool:
    if isinstance(error, PlatformBusy):
        return error.wait is None or error.wait <= _LONGEST_WAIT_SECONDS
    return isinstance(error, PlatformUnreachable)


def _most_tries(state: RetryCallState, attempts: int) -> int:
    if _is_short.get():
        return 1
    error = state.outcome.exception() if state.outcome else None
    without_answer = _is_soon_given_up.get() and isinstance(error, PlatformUnreachable)
    return min(attempts, _TRIES_WITHOUT_AN_ANSWER) if without_answer else attempts


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    told = error.wait if isinstance(error, PlatformBusy) else None
    seconds = told if told is not None else 2.0 ** (state.attempt_number - 1)
    return min(seconds, _LONGEST_WAIT_SECONDS)
