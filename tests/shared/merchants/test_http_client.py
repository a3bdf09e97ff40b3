"""Requests to the platforms: whatever comes back, a complete answer in time or one error."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from shared.merchants.errors import (
    PlatformBusy,
    PlatformError,
    PlatformUnreachable,
    TokenRefused,
)
from shared.merchants.http_client import SOON, Limits, Outbound, soon_given_up
from tests.support.app_process import free_port
from tests.support.fake_graph import FakeGraph


@pytest.fixture
def outbound() -> Iterator[Outbound]:
    """A client with little patience."""
    limits = Limits(connect=2, silence=0.3, whole_answer=0.6, most_bytes=1024 * 1024)
    with closing(Outbound(limits)) as client:
        yield client


def ask(outbound: Outbound, graph: FakeGraph, **named: str) -> object:
    """A request that the stand-in answers by 400, when nothing is wrong."""
    return outbound.send("GET", f"{graph.url}/{graph.version}/me", params=named)


def test_a_complete_answer_comes_back_whatever_its_status(
    outbound: Outbound, graph: FakeGraph
) -> None:
    """A refusal is an answer: its meaning is the caller's."""
    answer = outbound.send("GET", f"{graph.url}/{graph.version}/me")

    assert answer.status == 400
    assert answer.document()["error"]["code"] == 2500
    assert answer.headers["content-type"].startswith("application/json")


FAULTS: dict[str, Callable[[FakeGraph], None]] = {
    "silence": lambda graph: graph.hang("me", 5),
    "huge": lambda graph: graph.huge("me", 3),
    "cut": lambda graph: graph.cut("me"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_an_incomplete_answer_is_out_of_reach(
    outbound: Outbound, graph: FakeGraph, name: str
) -> None:
    """Silence, too many bytes, or an end in the middle: named, quickly, and with no secret."""
    FAULTS[name](graph)
    began = time.monotonic()

    with pytest.raises(PlatformUnreachable) as caught:
        ask(outbound, graph, access_token="EAAB-secret")

    assert time.monotonic() - began < 4
    assert "127.0.0.1" in caught.value.message
    assert "secret" not in caught.value.message + caught.value.hint
    assert caught.value.__cause__ is None  # the client's own error has the whole URL


def test_nobody_there_is_out_of_reach(outbound: Outbound) -> None:
    """A refused connection, and an address that is none."""
    for url in (f"http://127.0.0.1:{free_port()}/x", "http://127.0.0.1:99999/"):
        with pytest.raises(PlatformUnreachable):
            outbound.send("GET", url)


def test_a_file_is_written_as_it_comes(outbound: Outbound, graph: FakeGraph) -> None:
    """In place of its bytes in memory; of a refusal nothing is written."""
    sink = io.BytesIO()
    graph.huge("me", 0.5)
    url = f"{graph.url}/{graph.version}/me"

    assert outbound.download(url, sink, 1024 * 1024) == 200
    assert len(sink.getvalue()) > 512 * 1024
    sink = io.BytesIO()
    assert outbound.download(url, sink, 1024) == 400
    assert sink.getvalue() == b""


@pytest.mark.parametrize("name", FAULTS)
def test_a_file_that_does_not_come_whole_is_out_of_reach(
    outbound: Outbound, graph: FakeGraph, name: str
) -> None:
    """Silence, too many bytes, or an end in the middle."""
    FAULTS[name](graph)

    with pytest.raises(PlatformUnreachable) as caught:
        outbound.download(f"{graph.url}/{graph.version}/me?sig=secret", io.BytesIO(), 1024 * 1024)

    assert "secret" not in caught.value.message
    assert caught.value.__cause__ is None


def test_garbage_is_no_document(outbound: Outbound, graph: FakeGraph) -> None:
    """Status 200 and no JSON object: a proxy in between, which may be gone the next time."""
    graph.garbage("me")

    answer = outbound.send("GET", f"{graph.url}/{graph.version}/me")

    assert answer.status == 200
    with pytest.raises(PlatformUnreachable):
        answer.document()


def test_redirects_are_not_followed(outbound: Outbound, graph: FakeGraph) -> None:
    """A token would go to wherever they lead."""
    graph.redirect("me", f"{graph.url}/{graph.version}/elsewhere")

    assert outbound.send("GET", f"{graph.url}/{graph.version}/me").status == 302
    assert graph.calls("elsewhere") == []


# --- patience -------------------------------------------------------------------------------


class Calls:
    """Answers with these errors, one after the other, and then well."""

    def __init__(self, *errors: PlatformError) -> None:
        self.errors = list(errors)
        self.at: list[float] = []

    def __call__(self) -> str:
        self.at.append(time.monotonic())
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


def test_who_is_busy_is_asked_again_when_they_say(outbound: Outbound) -> None:
    """After as many seconds as the platform tells."""
    calls = Calls(PlatformBusy("slow down", wait=0.1), PlatformBusy("slow down", wait=0.1))

    assert outbound.patiently(calls) == "answer"

    waits = [after - before for before, after in zip(calls.at, calls.at[1:], strict=False)]
    assert all(0.1 <= wait < 0.9 for wait in waits), waits


def test_who_is_out_of_reach_is_asked_again_after_a_second(outbound: Outbound) -> None:
    """When nobody says how long to wait."""
    calls = Calls(PlatformUnreachable("gone"))

    assert outbound.patiently(calls) == "answer"

    assert calls.at[1] - calls.at[0] >= 1


def test_who_does_not_answer_the_polling_is_asked_twice(
    outbound: Outbound, graph: FakeGraph
) -> None:
    """A platform that hangs gets two requests; one that says that it is busy gets them all."""
    asked: list[float] = []

    def call() -> object:
        asked.append(time.monotonic())
        return ask(outbound, graph)

    for _ in range(3):
        graph.hang("me", 5)
    busy = Calls(*[PlatformBusy("slow down", wait=0) for _ in range(5)])
    with soon_given_up():
        with pytest.raises(PlatformUnreachable):
            outbound.patiently(call)
        assert outbound.patiently(busy) == "answer"

    assert len(asked) == 2
    assert len(busy.at) == 6


def test_the_polling_waits_for_an_answer_for_a_third_of_a_minute() -> None:
    """Its limits are narrower than those of other requests, and never wider than what is given."""
    assert Limits().within(SOON) == SOON
    assert SOON.silence * 2 <= 20
    assert Limits(silence=0.3).within(SOON).silence == 0.3


def test_patience_ends(outbound: Outbound) -> None:
    """After so many attempts the last error comes out."""
    last = PlatformBusy("still", wait=0)
    calls = Calls(PlatformBusy("slow down", wait=0), last, PlatformBusy("more", wait=0))

    with pytest.raises(PlatformBusy) as caught:
        outbound.patiently(calls, attempts=2)

    assert caught.value is last


@pytest.mark.parametrize("error", [TokenRefused("expired"), PlatformError("no")])
def test_what_will_not_change_is_asked_once(outbound: Outbound, error: PlatformError) -> None:
    """A refused token is not better a second later."""
    calls = Calls(error, error)

    with pytest.raises(type(error)):
        outbound.patiently(calls)

    assert len(calls.at) == 1


def test_closing_ends_the_waiting(outbound: Outbound) -> None:
    """A program that stops does not wait for a platform."""
    calls = Calls(PlatformBusy("slow down", wait=50))
    ended: list[Exception] = []

    def wait() -> None:
        try:
            outbound.patiently(calls)
        except PlatformUnreachable as error:
            ended.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    outbound.close()
    thread.join(5)

    assert not thread.is_alive()
    assert len(ended) == 1


def test_a_closed_client_is_out_of_reach(outbound: Outbound, graph: FakeGraph) -> None:
    """Work that is still under way when the program stops is no fault of the program."""
    outbound.close()

    with pytest.raises(PlatformUnreachable, match="shutting down"):
        ask(outbound, graph)
