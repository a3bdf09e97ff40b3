"""Whoever holds a connection open without a request loses it; a request may take its time."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from shared.web.held_connections import RequestHeadLimit, RequestsInHand
from tests.support.waiting import eventually

GET = b"GET / HTTP/1.1\r\nHost: bot\r\n\r\n"
POST = b"POST /unread HTTP/1.1\r\nHost: bot\r\nContent-Length: 1000\r\n\r\n"
PATIENCE = 60
PIECE = 64 * 1024
LARGE = 512 * PIECE
# What has come to its end in the server.
ENDED: list[str] = []


class Hurried(RequestHeadLimit):
    """The same, sooner."""

    head_seconds = 0.3
    rest_seconds = 0.2


class Patient(RequestHeadLimit):
    """Only what is sent after an answer ends soon."""

    head_seconds = 3600.0
    rest_seconds = 0.2


class Strict(Patient):
    """What is taken for an early answer ends the connection at once."""

    rest_seconds = 0.0


async def _slow(request: Request) -> PlainTextResponse:
    """Longer than the limit for a head."""
    await asyncio.sleep(4 * Hurried.head_seconds)
    return PlainTextResponse("at last")


async def _large(request: Request) -> PlainTextResponse:
    """More than the buffers of both ends hold, at once."""
    return PlainTextResponse("x" * LARGE)


async def _stream(request: Request) -> StreamingResponse:
    """The same, piece by piece."""

    async def pieces() -> AsyncIterator[bytes]:
        try:
            for _ in range(LARGE // PIECE):
                yield b"x" * PIECE
        finally:
            ENDED.append("stream")

    return StreamingResponse(pieces())


async def _quick(request: Request) -> PlainTextResponse:
    return PlainTextResponse("here")


async def _body(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(len(await request.body())))


@contextmanager
def serving(protocol: type[RequestHeadLimit]) -> Iterator[int]:
    """The port of a server whose keep-alive is no limit of its own."""
    app = Starlette(
        routes=[
            Route("/", _quick),
            Route("/slow", _slow),
            Route("/large", _large),
            Route("/stream", _stream),
            Route("/unread", _quick, methods=["POST"]),
            Route("/body", _body, methods=["POST"]),
        ]
    )
    app.add_middleware(RequestsInHand)
    config = uvicorn.Config(
        app, http=protocol, log_config=None, lifespan="off", timeout_keep_alive=3600
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            eventually(lambda: server.started, "a server")
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Of a server that is hurried."""
    with serving(Hurried) as port:
        yield port


def opened(port: int) -> closing[socket.socket]:
    """A connection."""
    return closing(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE))


def to_the_end(connection: socket.socket) -> bytes:
    """All that comes until the server closes the connection."""
    received = b""
    while chunk := connection.recv(65536):
        received += chunk
    return received


def trickle_to_the_end(connection: socket.socket, byte: bytes) -> bytes:
    """The same, while a byte is sent again and again."""
    received = b""
    connection.settimeout(0.02)
    for _ in range(PATIENCE * 50):
        try:
            connection.sendall(byte)
            chunk = connection.recv(65536)
        except TimeoutError:
            continue
        except (ConnectionResetError, BrokenPipeError):
            return received
        if not chunk:
            return received
        received += chunk
    raise AssertionError("the server keeps the connection")


@pytest.mark.parametrize("sent", [b"", b"G", GET[:-2]], ids=["nothing", "a byte", "half"])
def test_a_head_that_does_not_come_whole_ends_the_connection(port: int, sent: bytes) -> None:
    """Without an answer, whatever of it came."""
    with opened(port) as connection:
        connection.sendall(sent)

        assert to_the_end(connection) == b""


def test_a_head_that_comes_byte_by_byte_ends_the_connection(port: int) -> None:
    """A byte more gives no time more."""
    with opened(port) as connection:
        connection.sendall(GET[:-2] + b"X-Long: ")

        assert trickle_to_the_end(connection, b"x") == b""


def test_a_second_head_has_the_same_limit(port: int) -> None:
    """After an answer as at the beginning: a byte ends uvicorn's own limit, and not this one."""
    with opened(port) as connection:
        connection.sendall(GET + GET[:-2])

        assert to_the_end(connection).count(b"200 OK") == 1


def test_a_request_may_take_longer(port: int) -> None:
    """The limit is for its head alone; the answer comes, and so does the next one."""
    with opened(port) as connection:
        connection.sendall(GET.replace(b" / ", b" /slow ") + GET)

        received = to_the_end(connection)

    assert received.count(b"200 OK") == 2
    assert b"at last" in received


def test_what_is_sent_after_an_early_answer_ends_soon() -> None:
    """A body that nobody waits for any more keeps no connection, however it drips."""
    with serving(Patient) as port, opened(port) as connection:
        connection.sendall(POST + b"x" * 10)

        assert b"200 OK" in trickle_to_the_end(connection, b"x")


def test_a_body_that_was_read_to_its_end_leaves_the_connection_open() -> None:
    """The next request on it is answered, and so is one without a body."""
    with (
        serving(Strict) as port,
        closing(HTTPConnection("127.0.0.1", port, timeout=PATIENCE)) as connection,
    ):
        for method, path, body in (
            ("POST", "/body", b"x" * 1000),
            ("POST", "/body", b""),
            ("GET", "/", None),
            ("POST", "/body", b"x"),
        ):
            connection.request(method, path, body)
            with connection.getresponse() as answer:
                assert answer.status == 200
                answer.read()
            assert connection.sock is not None, "the answer asks for another connection"


def narrow(port: int) -> closing[socket.socket]:
    """A connection of which the other side holds little that was not read."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(PATIENCE)
    connection.connect(("127.0.0.1", port))
    return closing(connection)


@pytest.mark.parametrize("path", ["large", "stream"])
def test_who_does_not_read_an_answer_loses_the_connection(port: int, path: str) -> None:
    """And nothing of the answer waits for them any more."""
    ENDED.clear()
    with narrow(port) as connection:
        connection.sendall(GET.replace(b"/", b"/" + path.encode(), 1))

        def is_given_up() -> bool:
            """Sending to what the other side has reset is an error."""
            try:
                connection.send(b"x")
            except OSError:
                return True
            return False

        eventually(is_given_up, "the end of the connection")
    if path == "stream":
        eventually(lambda: ENDED == ["stream"], "the end of the answer")


@pytest.mark.parametrize("path", ["large", "stream"])
def test_who_reads_slowly_gets_the_whole_answer(port: int, path: str) -> None:
    """It takes several times as long as a head may."""
    with opened(port) as connection:
        connection.sendall(GET.replace(b"/", b"/" + path.encode(), 1))
        received, began, seconds = 0, time.monotonic(), 4 * Hurried.head_seconds
        while received < LARGE:
            chunk = connection.recv(PIECE)
            assert chunk, f"ended after {received} bytes"
            received += len(chunk)
            if time.monotonic() - began < seconds:
                time.sleep(seconds * len(chunk) / LARGE)
