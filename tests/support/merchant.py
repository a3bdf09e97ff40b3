"""`Merchant`: a merchant's browser that stops at each redirect, so that a test can change it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import httpx2

PROBLEM = "application/problem+json"


class Merchant:
    """Keeps cookies and follows nothing. `answers` are all that the bot has answered it."""

    def __init__(self, url: str) -> None:
        self.answers: list[httpx2.Response] = []
        self.states: list[str] = []
        self.callbacks: list[str] = []
        self._bot = httpx2.Client(
            base_url=url,
            timeout=30,
            trust_env=False,
            follow_redirects=False,
            event_hooks={"response": [self._note]},
        )
        self._platforms = httpx2.Client(timeout=30, trust_env=False, follow_redirects=False)

    def _note(self, answer: httpx2.Response) -> None:
        answer.read()
        self.answers.append(answer)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bot.close()
        self._platforms.close()

    # What the browser has

    @property
    def cookies(self) -> dict[str, str]:
        """Its cookies, by name."""
        return {cookie.name: cookie.value or "" for cookie in self._bot.cookies.jar}

    def with_cookies(self, **cookies: str) -> Merchant:
        """Another browser at the same bot, with these cookies; close it."""
        other = Merchant(str(self._bot.base_url))
        for name, value in cookies.items():
            other.set_cookie(name, value)
        return other

    def set_cookie(self, name: str, value: str) -> None:
        """Put a cookie in the place of the one of this name."""
        self._bot.cookies = httpx2.Cookies({**self.cookies, name: value})

    # What it asks for

    def get(self, path: str, **more: Any) -> httpx2.Response:
        """One request to the bot."""
        return self._bot.get(path, **more)

    def post(self, path: str, **more: Any) -> httpx2.Response:
        """One request to the bot."""
        return self._bot.post(path, **more)

    def front(self) -> dict[str, Any]:
        """What a program reads at `/`."""
        document: dict[str, Any] = self.get("/").json()
        return document

    # Logins, a step at a time

    def leave_for_shop(self, shop: str) -> str:
        """Begin a login; the address at Shopify to which the bot sends the browser."""
        return self.leave(f"/shopify/{shop}/login")

    def leave_for_facebook(self) -> str:
        """Begin a login; the address of the dialog to which the bot sends the browser."""
        return self.leave("/facebook/login")

    def agree(self, address: str) -> str:
        """Say yes at the platform; path and query of the callback, which is not visited."""
        sent = self._platforms.get(address)
        assert sent.status_code == 302, sent.text
        self.callbacks.append(here(sent.headers["location"]))
        return self.callbacks[-1]

    def begin_shop(self, shop: str) -> str:
        """All of a login but its last step: path and query of the callback."""
        return self.agree(self.leave_for_shop(shop))

    def begin_pages(self) -> str:
        """All of a login but its last step: path and query of the callback."""
        return self.agree(self.leave_for_facebook())

    def connect_shop(self, shop: str) -> None:
        """A whole login at Shopify."""
        connected(self.get(self.begin_shop(shop)))

    def connect_pages(self) -> None:
        """A whole login at Facebook."""
        connected(self.get(self.begin_pages()))

    def leave(self, path: str) -> str:
        """Begin a login; the address to which the bot sends the browser."""
        answer = self.get(path)
        assert answer.status_code == 302, answer.text
        address: str = answer.headers["location"]
        self.states.append(state_in(address))
        return address


def connected(answer: httpx2.Response) -> None:
    """The callback did its work, and leads to the first page."""
    assert answer.status_code == 303, answer.text
    assert answer.headers["location"] == "/"


def refused(answer: httpx2.Response, status: int, code: str) -> str:
    """The answer is this problem document, and begins no session; its text."""
    assert answer.status_code == status, (answer.status_code, answer.text)
    assert answer.headers["content-type"] == PROBLEM
    document: Mapping[str, Any] = answer.json()
    assert (document["status"], document["code"]) == (status, code)
    assert "session=" not in answer.headers.get("set-cookie", "")
    return answer.text


def here(url: str) -> str:
    """Path and query of an address."""
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"


def state_in(url: str) -> str:
    """The `state` in the query of an address."""
    return value_in(url, "state")


def value_in(url: str, name: str) -> str:
    """The one value of a parameter in the query of an address."""
    (value,) = parse_qs(urlsplit(url).query)[name]
    return value


def session_cookies(answers: Sequence[httpx2.Response], name: str) -> list[str]:
    """The `Set-Cookie` headers of a cookie in these answers."""
    given = [line for one in answers for line in one.headers.get_list("set-cookie")]
    return [line for line in given if line.startswith(f"{name}=")]
