"""What a store refuses is named for what it is, with the words of the server."""

from __future__ import annotations

import io
import uuid
from collections.abc import Callable, Iterator

import pytest

from shared.errors import (
    ObjectArchived,
    StoreError,
    StoreFailing,
    StoreFull,
    StoreNoBucket,
    StoreNotS3,
    StoreOverwrites,
    StoreSuspended,
    StoreUnreachable,
    StoreWrongSecret,
)
from shared.store.spaces import SpacesStore
from tests.support.fault_proxy import FaultProxy, pretend, refuse, rewrite_host, web_page
from tests.support.listener import closed_port
from tests.support.s3_server import S3Server

SAID = "these are the words of the server"
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[FaultProxy]:
    with FaultProxy(s3_server.endpoint) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def bucket(s3_server: S3Server) -> str:
    """A bucket that has the object `a.db`."""
    name = f"refusals-{uuid.uuid4().hex}"
    s3_server.create_bucket(name)
    s3_server.client().put_object(Bucket=name, Key="a.db", Body=b"content")
    return name


@pytest.fixture
def store(s3_server: S3Server, proxy: FaultProxy, bucket: str) -> SpacesStore:
    """A store behind the proxy, in that bucket."""
    return SpacesStore(proxy.settings(s3_server.settings(bucket)), attempts=2)


@pytest.fixture
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment that names no proxy."""
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


def put(store: SpacesStore) -> None:
    store.put("b.db", io.BytesIO(b"new"), {})


def get(store: SpacesStore) -> None:
    store.get("a.db", io.BytesIO())


def list_all(store: SpacesStore) -> None:
    list(store.list(""))


@pytest.mark.parametrize(
    ("act", "status", "code", "kind", "happened", "hint"),
    [
        (put, 403, "QuotaExceeded", StoreFull, "full", "quota"),
        (put, 507, "XMinioStorageFull", StoreFull, "full", "quota"),
        (list_all, 403, "UserSuspended", StoreSuspended, "suspended the account", "provider"),
        (get, 403, "InvalidObjectState", ObjectArchived, "archived", "restore-object"),
        (put, 501, "NotImplemented", StoreOverwrites, "cannot refuse to overwrite", "honours"),
        (put, 400, "InvalidRequest", StoreError, "400", "docs"),
        (list_all, 400, "AuthorizationHeaderMalformed", StoreNoBucket, "region", "SPACES_REGION"),
        (put, 409, "ConditionalRequestConflict", StoreFailing, "same key", "again"),
        (list_all, 403, "SignatureDoesNotMatch", StoreWrongSecret, "match", "SPACES_API_SECRET"),
    ],
)
def test_a_refusal_has_words_of_its_own_and_those_of_the_server(
    store: SpacesStore,
    proxy: FaultProxy,
    act: Callable[[SpacesStore], None],
    status: int,
    code: str,
    kind: type[StoreError],
    happened: str,
    hint: str,
) -> None:
    """What the store refuses is told as what it is, and the server's own message is in ours."""
    proxy.on(refuse(status, code, SAID))

    with pytest.raises(StoreError) as caught:
        act(store)

    assert type(caught.value) is kind
    assert happened in caught.value.message
    assert f"{code}: {SAID}" in caught.value.message
    assert hint in caught.value.hint


def test_a_message_of_the_server_is_one_short_line_without_our_key(
    s3_server: S3Server, proxy: FaultProxy
) -> None:
    """What a server says is bounded, printable, and shows neither our key nor our secret."""
    settings = proxy.settings(s3_server.settings("any-bucket"))
    said = f"key {settings.api_key} and {settings.api_secret}\nthen &#133;[31m" + "x" * 5000
    proxy.on(refuse(403, "AccessDenied", said))

    with pytest.raises(StoreError) as caught:
        list_all(SpacesStore(settings))

    assert "AccessDenied: key [redacted] and [redacted] then [31mxxx" in caught.value.message
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 600


def test_a_conflict_of_conditional_puts_is_tried_again(
    store: SpacesStore, proxy: FaultProxy
) -> None:
    """HTTP 409 passes: the next attempt stores the object."""
    proxy.on(refuse(409, "ConditionalRequestConflict"), method="PUT", times=1)

    put(store)

    assert store.head("b.db").size == 3
    assert len(proxy.requests("PUT")) == 2


@pytest.mark.parametrize("status", [200, 401, 403, 404])
@pytest.mark.parametrize(
    "text", ["<html><body>Log in</body></html>", "<!DOCTYPE html><p>Log in<br>"]
)
@pytest.mark.parametrize("act", [put, get, list_all])
def test_a_web_page_is_no_answer_of_a_store(
    store: SpacesStore,
    proxy: FaultProxy,
    act: Callable[[SpacesStore], None],
    text: str,
    status: int,
) -> None:
    """A console or a captive portal is neither an empty bucket nor a missing object."""
    proxy.on(web_page(status, text))

    with pytest.raises(StoreNotS3) as caught:
        act(store)

    assert "not an S3 server" in caught.value.message
    assert "SPACES_ENDPOINT" in caught.value.hint


def test_an_answer_without_a_listing_is_not_an_empty_one(
    store: SpacesStore, proxy: FaultProxy
) -> None:
    """A 200 that lists nothing and does not say that it is a listing is an error."""
    proxy.on(pretend(), method="LIST")

    with pytest.raises(StoreNotS3):
        list_all(store)


def test_a_proxy_that_rewrites_the_host_is_named_beside_the_secret(
    store: SpacesStore, proxy: FaultProxy
) -> None:
    """A right secret whose signature does not match is explained."""
    proxy.on(rewrite_host("store.internal"))

    with pytest.raises(StoreWrongSecret) as caught:
        list_all(store)

    assert "a proxy before the store changes the Host header" in caught.value.hint


def test_a_proxy_of_the_environment_is_named(
    s3_server: S3Server, no_proxies: pytest.MonkeyPatch
) -> None:
    """A connection that fails names the proxy that it went through, without its password."""
    port = closed_port()
    no_proxies.setenv("HTTP_PROXY", f"http://somebody:opens-sesame@127.0.0.1:{port}/")

    with pytest.raises(StoreUnreachable) as caught:
        list_all(SpacesStore(s3_server.settings("any-bucket"), attempts=1))

    assert f"through the proxy 127.0.0.1:{port} of HTTP_PROXY" in caught.value.message
    assert "NO_PROXY=127.0.0.1" in caught.value.hint
    assert "sesame" not in caught.value.message + caught.value.hint


def test_a_proxy_for_other_programs_is_named(
    s3_server: S3Server, no_proxies: pytest.MonkeyPatch
) -> None:
    """`ALL_PROXY` does not reach the store, and the error says which variable does."""
    no_proxies.setenv("ALL_PROXY", "http://127.0.0.1:1")
    gone = SpacesStore(
        s3_server.settings("any-bucket", endpoint=f"http://127.0.0.1:{closed_port()}"), attempts=1
    )

    with pytest.raises(StoreUnreachable) as caught:
        list_all(gone)

    assert "ALL_PROXY is set" in caught.value.hint
    assert "HTTP_PROXY" in caught.value.hint


def test_no_proxy_is_named_where_none_is_used(
    s3_server: S3Server, no_proxies: pytest.MonkeyPatch
) -> None:
    """A host that `NO_PROXY` exempts fails without a word of the proxy."""
    no_proxies.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    no_proxies.setenv("NO_PROXY", "127.0.0.1")
    gone = SpacesStore(
        s3_server.settings("any-bucket", endpoint=f"http://127.0.0.1:{closed_port()}"), attempts=1
    )

    with pytest.raises(StoreUnreachable) as caught:
        list_all(gone)

    assert "proxy" not in caught.value.message
    assert "proxy" not in caught.value.hint.lower()
