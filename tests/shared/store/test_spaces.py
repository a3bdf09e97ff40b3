"""`SpacesStore` against servers that refuse, fail, hang, lie and are not trusted."""

from __future__ import annotations

import hashlib
import io
import os
import socket
import ssl
import threading
import traceback
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import botocore.auth
import pytest
import trustme
import urllib3.exceptions

from shared.errors import (
    StoreAccessDenied,
    StoreClockSkew,
    StoreError,
    StoreFailing,
    StoreNoBucket,
    StoreOverwrites,
    StoreUnknownKey,
    StoreUnreachable,
    StoreUntrusted,
    StoreWrongSecret,
)
from shared.store.object_store import ObjectStore
from shared.store.spaces import SpacesStore
from shared.store.spaces_access import SpacesSettings
from tests.support.fault_proxy import FaultProxy, cut, drop, hang, lose_answer, refuse
from tests.support.s3_server import OTHER_BUCKET, REGION, S3Server

KEY, SECRET = "DO00EXAMPLEKEY", "example-secret-of-spaces"

METHODS: dict[str, Callable[[ObjectStore], object]] = {
    "put": lambda store: store.put("a.db", io.BytesIO(b"content"), {"sha256": "x"}),
    "get": lambda store: store.get("a.db", io.BytesIO()),
    "head": lambda store: store.head("a.db"),
    "list": lambda store: list(store.list("")),
    "delete": lambda store: store.delete("a.db"),
    "check": lambda store: store.check("check", b"probe"),
}


@pytest.fixture(scope="module")
def shared_bucket(s3_server: S3Server) -> str:
    name = f"traps-{uuid.uuid4().hex}"
    s3_server.create_bucket(name)
    s3_server.client().put_object(Bucket=name, Key="a.db", Body=b"content")
    return name


def refusals(settings: SpacesSettings, *names: str, **limits: float) -> dict[str, StoreError]:
    """What each method, or each of `names`, raises; key and secret can be read in none of it."""
    store = SpacesStore(settings, attempts=1, **{"connect_timeout": 5, "read_timeout": 5, **limits})
    found = {}
    for name in names or METHODS:
        with pytest.raises(StoreError) as caught:
            METHODS[name](store)
        shown = "".join(traceback.format_exception(caught.value)) + caught.value.hint
        assert settings.api_secret not in shown
        assert settings.api_key not in shown
        assert settings.bucket in caught.value.message
        assert caught.value.hint
        found[name] = caught.value
    return found


def assert_all(errors: dict[str, StoreError], kind: type[StoreError], hint: str = "") -> None:
    """Every one of the errors is of exactly this class, and its hint names what to look at."""
    assert {name: type(error) for name, error in errors.items()} == dict.fromkeys(errors, kind)
    assert all(hint in error.hint for error in errors.values())


# --- refusals of the real server --------------------------------------------------------


def test_a_wrong_secret_is_named(s3_server: S3Server, shared_bucket: str) -> None:
    """A secret that does not fit its key is told as such by every method."""
    settings = s3_server.settings(shared_bucket, api_secret=SECRET)

    assert_all(refusals(settings), StoreWrongSecret, "SPACES_API_SECRET")


def test_an_unknown_key_is_named(s3_server: S3Server, shared_bucket: str) -> None:
    """A key that the server does not know is told as such by every method."""
    settings = s3_server.settings(shared_bucket, api_key=KEY)

    assert_all(refusals(settings), StoreUnknownKey, "SPACES_API_KEY")


def test_a_key_without_rights_is_named(s3_server: S3Server, shared_bucket: str) -> None:
    """A valid key with no right to the bucket is told as such by every method."""
    settings = s3_server.readonly_settings(shared_bucket)

    assert_all(refusals(settings), StoreAccessDenied, "SPACES_BUCKET")


def test_a_key_that_may_only_read_cannot_write(s3_server: S3Server) -> None:
    """In the bucket that it may read, such a key lists, and is refused by name when it writes."""
    settings = s3_server.readonly_settings(OTHER_BUCKET)

    assert [found.key for found in SpacesStore(settings).list("ready")] == ["ready"]
    assert_all(refusals(settings, "put", "delete", "check"), StoreAccessDenied)


def test_a_bucket_that_does_not_exist_is_named(s3_server: S3Server) -> None:
    """A wrong bucket is told as such by every method, also by `head`, and is not created."""
    settings = s3_server.settings("no-such-bucket")

    assert_all(refusals(settings), StoreNoBucket, "SPACES_BUCKET")
    buckets = s3_server.client().list_buckets()["Buckets"]
    assert "no-such-bucket" not in {bucket["Name"] for bucket in buckets}


def test_a_clock_that_is_off_is_named(
    s3_server: S3Server,
    shared_bucket: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Requests signed an hour ahead are refused, and the error says that it is the clock."""
    now: Callable[..., datetime] = botocore.auth.get_current_datetime  # type: ignore[attr-defined]
    monkeypatch.setattr(
        botocore.auth, "get_current_datetime", lambda *args: now(*args) + timedelta(hours=1)
    )

    assert_all(refusals(s3_server.settings(shared_bucket)), StoreClockSkew, "timedatectl")


def test_an_unknown_authority_is_named(s3_tls_server: S3Server, shared_bucket: str) -> None:
    """A certificate that cannot be verified is told as such, and no request is sent."""
    settings = s3_tls_server.settings(shared_bucket, ca_bundle=None)

    assert_all(refusals(settings), StoreUntrusted, "SPACES_CA_BUNDLE")


def test_a_certificate_for_another_host_is_named(tmp_path: Path) -> None:
    """A certificate of a known authority, but for another name, is not trusted either."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("other.example").configure_cert(context)

    with serving(_Careless, context) as settings:
        trusting = replace(settings, ca_bundle=str(tmp_path / "ca.pem"))
        assert_all(refusals(trusting), StoreUntrusted)


# --- no answer, or a bad one ------------------------------------------------------------


def test_a_refused_connection_is_unreachable() -> None:
    """Nobody listens: `StoreUnreachable`, whatever the method."""
    with closing(socket.socket()) as reserved:
        reserved.bind(("127.0.0.1", 0))  # bound and not listening: refused for certain
        endpoint = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        settings = SpacesSettings(KEY, SECRET, REGION, "bucket", endpoint)

        assert_all(refusals(settings), StoreUnreachable, "SPACES_ENDPOINT")


def test_a_server_that_never_answers_is_unreachable() -> None:
    """A connection that is accepted and never answered ends at the read timeout."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
        settings = SpacesSettings(KEY, SECRET, REGION, "bucket", endpoint)

        assert_all(refusals(settings, read_timeout=0.05), StoreUnreachable)


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[FaultProxy]:
    with FaultProxy(s3_server.endpoint) as proxy:
        yield proxy


@pytest.mark.parametrize(
    ("status", "code"),
    [(500, "InternalError"), (502, ""), (503, "SlowDown"), (503, "ServiceUnavailable")],
)
def test_a_server_that_fails_is_named(
    s3_server: S3Server,
    shared_bucket: str,
    proxy: FaultProxy,
    status: int,
    code: str,
) -> None:
    """5xx and the request to slow down are `StoreFailing`, from every method."""
    proxy.on(refuse(status, code))
    settings = proxy.settings(s3_server.settings(shared_bucket))

    assert_all(refusals(settings), StoreFailing)


def test_a_dropped_connection_is_unreachable(
    s3_server: S3Server,
    shared_bucket: str,
    proxy: FaultProxy,
) -> None:
    """A connection that ends without an answer is `StoreUnreachable`."""
    proxy.on(drop())
    settings = proxy.settings(s3_server.settings(shared_bucket))

    assert_all(refusals(settings), StoreUnreachable, "SPACES_ENDPOINT")


@pytest.mark.parametrize("reset", [False, True])
def test_a_download_that_is_cut_is_an_error(
    s3_server: S3Server, shared_bucket: str, proxy: FaultProxy, reset: bool
) -> None:
    """A body that ends early never passes for the whole object."""
    proxy.on(cut(3, reset=reset), method="GET")
    settings = proxy.settings(s3_server.settings(shared_bucket))

    assert_all(refusals(settings, "get"), StoreUnreachable)


def test_a_download_that_stops_is_unreachable(
    s3_server: S3Server, shared_bucket: str, proxy: FaultProxy
) -> None:
    """A download on which the server falls silent ends at the read timeout."""
    proxy.on(hang(), method="GET")
    settings = proxy.settings(s3_server.settings(shared_bucket))

    assert_all(refusals(settings, "get", read_timeout=0.05), StoreUnreachable)


def test_a_failure_that_passes_is_tried_again(
    s3_server: S3Server, bucket: str, proxy: FaultProxy
) -> None:
    """One 500 does not cost the backup: the put is sent again, whole, and succeeds."""
    proxy.on(refuse(500, "InternalError"), method="PUT", times=1)
    store = SpacesStore(proxy.settings(s3_server.settings(bucket)), attempts=2)
    body = os.urandom(300_000)
    reported: list[int] = []

    store.put("a.db", io.BytesIO(body), {"sha256": "x"}, reported.append)

    sink = io.BytesIO()
    store.get("a.db", sink)
    assert sink.getvalue() == body
    assert proxy.counts()["PUT"] == 2
    half = reported.index(len(body)) + 1
    assert reported[:half] == reported[half:] == sorted(reported[half:])


def test_a_lost_answer_is_not_a_conflict(
    s3_server: S3Server, bucket: str, proxy: FaultProxy
) -> None:
    """The retry after a lost answer meets its own object, and the put is a success."""
    proxy.on(lose_answer(), method="PUT", times=1)
    store = SpacesStore(proxy.settings(s3_server.settings(bucket)), attempts=2)

    store.put("a.db", io.BytesIO(b"content"), {"sha256": "x"})

    assert proxy.counts()["PUT"] == 2
    assert store.head("a.db").size == 7


def test_it_gives_up_after_the_attempts(
    s3_server: S3Server, bucket: str, proxy: FaultProxy
) -> None:
    """`attempts` counts requests, the first one included."""
    proxy.on(refuse(503, "SlowDown"))
    store = SpacesStore(proxy.settings(s3_server.settings(bucket)), attempts=2)

    with pytest.raises(StoreFailing):
        store.head("a.db")

    assert proxy.counts() == {"HEAD": 2}


def test_requests_are_made_as_spaces_wants_them(
    s3_server: S3Server, bucket: str, proxy: FaultProxy
) -> None:
    """One plain signed PutObject, conditional, with a signed body; listings of version 1."""
    store = SpacesStore(proxy.settings(s3_server.settings(bucket)))

    store.put("a.db", io.BytesIO(b"x" * 9_000_000), {"sha256": "x"})
    store.put("set.json", io.BytesIO(b"{}"), {"sha256": "x"})
    list(store.list(""))
    store.delete("a.db")

    assert proxy.counts() == {"PUT": 2, "LIST": 1, "DELETE": 1}
    put, manifest = (dict(found.headers) for found in proxy.requests("PUT"))
    assert put["If-None-Match"] == "*"
    assert len(put["X-Amz-Content-SHA256"]) == 64
    assert put["Authorization"].startswith("AWS4-HMAC-SHA256 ")
    assert put["Content-Length"] == "9000000"
    assert put["Content-Type"] == "application/octet-stream"
    assert manifest["Content-Type"] == "application/json"
    for absent in ("x-amz-trailer", "x-amz-sdk-checksum-algorithm", "content-encoding"):
        assert absent not in {name.lower() for name in put}
    assert not any(name.lower() == "content-md5" for name in put)
    [listing] = proxy.requests("LIST")
    assert "list-type" not in listing.target
    assert listing.target.startswith(f"/{bucket}?")


class ReadOnce(io.BytesIO):
    """A body that counts the bytes that are read of it."""

    taken = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """Read, and count."""
        chunk = super().read(size)
        self.taken += len(chunk)
        return chunk


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_a_body_whose_hash_is_known_is_read_once(
    s3_server: S3Server, s3_tls_server: S3Server, bucket: str, tls: bool
) -> None:
    """It is signed with the hash that the caller took, so the server checks against that."""
    signed: list[str] = []
    store = SpacesStore((s3_tls_server if tls else s3_server).settings(bucket))
    store._client.meta.events.register(
        "before-send.s3.PutObject",
        lambda request, **_: signed.append(request.headers["X-Amz-Content-SHA256"].decode()),
    )
    content = os.urandom(3_000_000)
    known, unknown = ReadOnce(content), ReadOnce(content)
    sha256 = hashlib.sha256(content).hexdigest()

    store.put("known.db", known, {"sha256": sha256})
    store.put("unknown.db", unknown, {"sha256": "not a hash"})

    assert signed == [sha256, sha256]
    assert (known.taken, unknown.taken) == (len(content), 2 * len(content))
    sink = io.BytesIO()
    store.get("known.db", sink)
    assert sink.getvalue() == content


def test_a_put_that_is_sent_again_keeps_the_known_hash(
    s3_server: S3Server, bucket: str, proxy: FaultProxy
) -> None:
    """A retry is signed anew, with the same hash, and stores the whole body."""
    proxy.on(refuse(500, "InternalError"), method="PUT", times=1)
    store = SpacesStore(proxy.settings(s3_server.settings(bucket)), attempts=2)
    content = os.urandom(300_000)
    sha256 = hashlib.sha256(content).hexdigest()

    store.put("a.db", io.BytesIO(content), {"sha256": sha256})

    hashes = [dict(found.headers)["X-Amz-Content-SHA256"] for found in proxy.requests("PUT")]
    assert hashes == [sha256, sha256]
    sink = io.BytesIO()
    store.get("a.db", sink)
    assert sink.getvalue() == content


def test_over_tls_requests_are_as_plain_as_over_http(s3_tls_server: S3Server, bucket: str) -> None:
    """No checksum trailer over https, which older gateways answer with 411."""
    seen: list[dict[str, object]] = []
    store = SpacesStore(s3_tls_server.settings(bucket))
    store._client.meta.events.register(
        "before-send.s3.PutObject", lambda request, **_: seen.append(dict(request.headers))
    )

    store.put("a.db", io.BytesIO(b"content"), {"sha256": "x"})

    [headers] = ({name.lower(): value for name, value in found.items()} for found in seen)
    assert headers["x-amz-content-sha256"] == hashlib.sha256(b"content").hexdigest().encode()
    assert "x-amz-trailer" not in headers
    assert "content-encoding" not in headers


# --- a server that cannot keep what it holds --------------------------------------------


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # `server_close` waits for them

    def handle_error(self, *_: object) -> None:
        """A client that does not trust us goes away in the middle of the handshake."""


class _Careless(BaseHTTPRequestHandler):
    """Takes any PUT with 200, `If-None-Match: *` or not; knows of an object if `keeps`."""

    protocol_version = "HTTP/1.1"
    keeps = True

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(200)

    def do_HEAD(self) -> None:
        self.answer(200 if self.keeps else 404)

    def do_GET(self) -> None:
        self.answer(404)

    def answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")  # a kept one would keep its thread
        self.send_header("Last-Modified", "Sun, 22 Nov 2026 01:00:00 GMT")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class _Portal(_Careless):
    """Answers every request with a web page, as a hotel does before one has paid."""

    def do_GET(self) -> None:
        self.answer(200, b"<html><p>Please log in.</html>")


class _Forgetful(_Careless):
    keeps = False


@contextmanager
def serving(
    handler: type[BaseHTTPRequestHandler], tls: ssl.SSLContext | None = None
) -> Iterator[SpacesSettings]:
    with _Server(("127.0.0.1", 0), handler) as server:
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        scheme = "https" if tls else "http"
        endpoint = f"{scheme}://127.0.0.1:{server.server_address[1]}"
        try:
            yield SpacesSettings(KEY, SECRET, REGION, "bucket", endpoint)
        finally:
            server.shutdown()
            thread.join()


def test_a_server_that_overwrites_is_found_out() -> None:
    """A server that ignores `If-None-Match: *` fails the check, before it costs a backup."""
    with serving(_Careless) as settings:
        assert_all(refusals(settings, "check"), StoreOverwrites)


def test_a_server_that_keeps_nothing_is_found_out() -> None:
    """A server that says 200 and stores nothing fails the check as what it is."""
    with serving(_Forgetful) as settings:
        assert_all(refusals(settings, "check"), StoreError)


def test_a_web_page_is_no_listing() -> None:
    """A web page with status 200 never passes for an empty bucket."""
    with serving(_Portal) as settings:
        assert_all(refusals(settings, "list"), StoreFailing)


# --- surroundings -----------------------------------------------------------------------


def test_stray_aws_settings_do_not_matter(
    s3_tls_server: S3Server,
    s3_server: S3Server,
    bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the AWS tools read from their environment and files reaches no request of ours."""
    (tmp_path / "broken").write_text("[profile\nthis is no configuration")
    for name, value in {
        "AWS_PROFILE": "no-such-profile",
        "AWS_DEFAULT_PROFILE": "no-such-profile",
        "AWS_ACCESS_KEY_ID": "stray-key",
        "AWS_SECRET_ACCESS_KEY": "stray-secret",
        "AWS_SESSION_TOKEN": "stray-token",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
        "AWS_REGION": "stray-region",
        "AWS_DEFAULT_REGION": "stray-region",
        "AWS_CA_BUNDLE": str(tmp_path / "no-such-file"),
        "AWS_CONFIG_FILE": str(tmp_path / "broken"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "broken"),
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_supported",
        "AWS_MAX_ATTEMPTS": "1",
        "AWS_USE_FIPS_ENDPOINT": "true",
        "AWS_USE_DUALSTACK_ENDPOINT": "true",
        "AWS_RETRY_MODE": "legacy",
        "AWS_DEFAULTS_MODE": "mobile",
    }.items():
        monkeypatch.setenv(name, value)

    for server in (s3_server, s3_tls_server):
        store = SpacesStore(server.settings(bucket))
        store.check("check", b"probe")
        assert [found.key for found in store.list("")] == ["check"]
        assert store._client.meta.endpoint_url == server.endpoint
        assert store._client.meta.region_name == REGION


def test_a_stray_authority_is_not_trusted(
    s3_tls_server: S3Server, shared_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whom to trust is said by SPACES_CA_BUNDLE alone, not by the variable of the AWS tools."""
    assert s3_tls_server.ca_bundle is not None
    monkeypatch.setenv("AWS_CA_BUNDLE", s3_tls_server.ca_bundle)

    settings = s3_tls_server.settings(shared_bucket, ca_bundle=None)

    assert_all(refusals(settings, "list"), StoreUntrusted)


def test_settings_that_make_no_client_are_a_store_error() -> None:
    """What botocore refuses before any request comes as `StoreError`, without the secret."""
    settings = SpacesSettings(KEY, SECRET, REGION, "bucket", "not a url")

    with pytest.raises(StoreError) as caught:
        SpacesStore(settings)

    shown = "".join(traceback.format_exception(caught.value)) + caught.value.hint
    assert KEY not in shown
    assert SECRET not in shown


@pytest.mark.parametrize(
    "kind", [urllib3.exceptions.ProtocolError, urllib3.exceptions.SSLError, ConnectionResetError]
)
def test_urllib3_does_not_get_through(
    s3_server: S3Server,
    shared_bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[Exception],
) -> None:
    """An error of the library below botocore, in the middle of a body, is translated too."""
    settings = s3_server.settings(shared_bucket)
    store = SpacesStore(settings, attempts=1)

    def broken(*_: object, **__: object) -> bytes:
        raise kind("broken")

    monkeypatch.setattr("urllib3.response.HTTPResponse.read1", broken)
    with pytest.raises(StoreUnreachable):
        store.get("a.db", io.BytesIO())
