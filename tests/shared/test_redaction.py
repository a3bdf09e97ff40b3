"""What opens doors is in no log: ours, the HTTP client's, or the server's."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import PLATFORMS
from shared.redaction import RedactingFormatter, redact, redact_all_logs

SECRET = "s3cr3t-Value_0.9~"
OF_OAUTH = ["access_token", "client_secret", "code", "refresh_token", "state"]
OF_PLATFORMS = [
    "appsecret_proof",
    "fb_exchange_token",
    "hmac",
    "hub.verify_token",
    "input_token",
    "signature",
    "signed_request",
    "X-Goog-Signature",
]
FORMS = [
    "{name}={value}",
    "GET /callback?shop=a&{name}={value}&b=c HTTP/1.1",
    "https://graph.example/v26.0/me?{name}={value}",
    "next=https%3A%2F%2Fx%2F%3F{name}%3D{value}",
    '{{"{name}": "{value}"}}',
    '{{"a":1,"{name}":"{value}","b":2}}',
    "{{'{name}': '{value}'}}",
    "{{'{name}': b'{value}'}}",
    '"{{\\"{name}\\": \\"{value}\\"}}"',
]


@pytest.fixture
def factory() -> Iterator[None]:
    """The redaction and the records of before come back."""
    before = logging.getLogRecordFactory()
    yield
    redact_all_logs()
    logging.setLogRecordFactory(before)


@pytest.mark.usefixtures("factory")
@pytest.mark.parametrize("name", [*OF_OAUTH, *OF_PLATFORMS])
@pytest.mark.parametrize("form", FORMS)
def test_the_value_is_hidden_and_the_name_is_not(name: str, form: str) -> None:
    """In queries, forms, JSON, and Python's own texts of them, in capitals too."""
    redact_all_logs(name for platform in PLATFORMS for name in platform.secret_names)
    for written in (name, name.upper()):
        shown = redact(form.format(name=written, value=SECRET))

        assert SECRET not in shown
        assert written in shown
        assert shown == form.format(name=written, value="[redacted]")


@pytest.mark.usefixtures("factory")
def test_a_platform_says_what_only_it_hides() -> None:
    """Its names are hidden beside those of OAuth, and are no longer when it is not there."""
    text = "acme_key=1&code=2"
    assert redact(text) == "acme_key=1&code=[redacted]"
    redact_all_logs(["acme_key"])
    assert redact(text) == "acme_key=[redacted]&code=[redacted]"
    redact_all_logs()
    assert redact(text) == "acme_key=1&code=[redacted]"


@pytest.mark.parametrize(
    "text",
    [
        "exit code=",
        "error code 190, subcode 463",
        "the state of things: good",
        "barcode=123",
        "zip_code=8000",
        "status=200",
        "encode='utf-8'",
        "",
    ],
)
def test_other_texts_stay_as_they_are(text: str) -> None:
    """A log that hides too much is of no use."""
    assert redact(text) == text


@given(text=st.text())
def test_any_text_is_redacted_once(text: str) -> None:
    """It never fails, and doing it again changes nothing."""
    assert redact(redact(text)) == redact(text)


@pytest.fixture
def logged(factory: None) -> Iterator[io.StringIO]:
    """What a handler of a library's logger writes, while all logs are redacted."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logger = logging.getLogger("some.library")
    logger.addHandler(handler)
    redact_all_logs(["hmac"])
    yield stream
    logger.removeHandler(handler)


def test_every_logger_is_redacted(logged: io.StringIO) -> None:
    """The text, its arguments, and objects that have the secret in their text."""

    class Url:
        def __str__(self) -> str:
            return f"https://x/?access_token={SECRET}"

    logger = logging.getLogger("some.library")
    logger.warning("GET https://x/?code=%s", SECRET)
    logger.warning("%s %s %d %.1f", Url(), f"state={SECRET}", 200, 0.5)
    logger.warning("%(url)s", {"url": Url()})

    assert SECRET not in logged.getvalue()
    assert logged.getvalue().splitlines()[1] == (
        "https://x/?access_token=[redacted] state=[redacted] 200 0.5"
    )


def test_a_formatter_of_its_own_finds_nothing_either(logged: io.StringIO) -> None:
    """uvicorn's access log takes the arguments of the record, and not its message."""
    record = logging.getLogger("uvicorn.access").makeRecord(
        "uvicorn.access",
        logging.INFO,
        "file",
        1,
        '%s - "%s %s HTTP/%s" %d',
        ("127.0.0.1:5", "GET", f"/shopify/callback?hmac={SECRET}&shop=a", "1.1", 303),
        None,
    )

    assert isinstance(record.args, tuple)
    assert record.args[2] == "/shopify/callback?hmac=[redacted]&shop=a"
    assert record.args[4] == 303
    assert SECRET not in record.getMessage()


def test_tracebacks_are_redacted() -> None:
    """An exception whose text has the whole URL in it."""
    formatter = RedactingFormatter(logging.Formatter("%(message)s"))
    try:
        raise ValueError(f"https://x/?refresh_token={SECRET}")
    except ValueError as error:
        record = logging.LogRecord(
            "x", logging.ERROR, "f", 1, "failed", None, (type(error), error, error.__traceback__)
        )

    shown = formatter.format(record)

    assert SECRET not in shown
    assert "refresh_token=[redacted]" in shown
