"""`Graph`: the requests to Meta's Graph API. Source: developers.facebook.com/docs/graph-api."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from facebook_integration.errors import TooMuchData
from facebook_integration.events import is_id
from facebook_integration.limits import Budgets, limit_of_refusal
from facebook_integration.models import GrantedPage, TokenFacts, UserToken
from facebook_integration.refusals import CONNECT_AGAIN, error_of, refusal
from facebook_integration.settings import FacebookSettings
from facebook_integration.signatures import appsecret_proof
from shared.clock import Clock
from shared.merchants.errors import (
    PlatformBusy,
    PlatformError,
    TokenRefused,
)
from shared.merchants.http_client import ATTEMPTS, ATTEMPTS_WHILE_WATCHED, Answer, Outbound

SCOPES = (
    "pages_show_list",
    "pages_manage_metadata",
    "pages_messaging",
    "pages_read_engagement",
)
SUBSCRIBED_FIELDS = (
    "messages",
    "messaging_postbacks",
    "messaging_referrals",
    "messaging_handovers",
    "message_echoes",
    "message_edits",
    "standby",
    "name",
    "category",
)

_GRANTED_FIELDS = "id,name,access_token"
_PAGE_FIELDS = "id,name,category,link"
_CONVERSATION_FIELDS = (
    "participants,updated_time,messages{id,created_time,from,to,message,attachments}"
)
_CONVERSATIONS = 25
_MOST_PAGES = 10_000

# The result of a call with a token that is good now; see `Pages.with_token`.
_Part = tuple[dict[str, Any], dict[str, str]]
WithToken = Callable[[Callable[[str], _Part]], _Part]


class Graph:
    """Every method raises `PlatformError` or a subclass; `TokenRefused` means: connect again."""

    def __init__(self, settings: FacebookSettings, outbound: Outbound, clock: Clock) -> None:
        self._settings = settings
        self._outbound = outbound
        self._budgets = Budgets(clock, outbound.pause)

    def exchange_code(self, code: str) -> UserToken:
        """The user's token for the code of a callback, which is good for one use."""
        return self._user_token({"redirect_uri": self._settings.redirect_uri, "code": code})

    def extend(self, token: str) -> UserToken:
        """A token of the same user that lasts for about 60 days."""
        return self._user_token({"grant_type": "fb_exchange_token", "fb_exchange_token": token})

    def inspect(self, token: str) -> TokenFacts:
        """Whose token it is; raises `TokenRefused` when it is not valid for our app."""
        app_token = f"{self._settings.app_id}|{self._settings.app_secret}"
        with _as_asked():
            data = self._watched("debug_token", app_token, {"input_token": token})["data"]
            facts = TokenFacts(
                str(data["app_id"]), str(data["user_id"]), tuple(data["scopes"]), _targets(data)
            )
            valid = data["is_valid"] is True
        if not valid or facts.app_id != self._settings.app_id or not is_id(facts.user_id):
            raise TokenRefused(
                "Meta returned a token that is not valid for this app", CONNECT_AGAIN
            )
        return facts

    def pages(self, token: str, holder: str = "me/accounts") -> list[GrantedPage]:
        """The Pages that a user granted, of themselves or of another edge that lists Pages."""
        params = {"fields": _GRANTED_FIELDS, "limit": "100"}
        with _as_asked():
            return [
                granted
                for found in self._listed(holder, token, params, ATTEMPTS_WHILE_WATCHED)
                if (granted := _granted(found))
            ]

    def businesses(self, token: str) -> list[str]:
        """The ids of the Business Portfolios of a user."""
        params = {"fields": "id", "limit": "100"}
        with _as_asked():
            listed = self._listed("me/businesses", token, params, ATTEMPTS_WHILE_WATCHED)
            return [business for found in listed if is_id(business := str(found["id"]))]

    def granted_page(
        self, page: str, token: str, attempts: int = ATTEMPTS_WHILE_WATCHED
    ) -> GrantedPage:
        """One Page with the token that this user gets for it; raises `PageUnavailable`."""
        answer = self._call("GET", page, token, {"fields": _GRANTED_FIELDS}, attempts)
        with _as_asked():
            granted = _granted(answer)
        if granted is None or granted.id != page:
            raise PlatformError("Meta's answer is about another Page")
        return granted

    def subscribe(self, page: str, token: str) -> None:
        """Have the news of a Page sent to our app; doing so again changes nothing."""
        fields = {"subscribed_fields": ",".join(SUBSCRIBED_FIELDS)}
        answer = self._call("POST", f"{page}/subscribed_apps", token, fields)
        if answer.get("success") is not True:
            raise PlatformError(f"Meta did not subscribe the Page {page}")

    def page(self, page: str, token: str) -> dict[str, Any]:
        """The metadata of a Page: id, name, category, link."""
        answer = self._call("GET", page, token, {"fields": _PAGE_FIELDS})
        return {name: answer[name] for name in _PAGE_FIELDS.split(",") if name in answer}

    def conversations(
        self, page: str, with_token: WithToken, after: str | None = None
    ) -> Iterator[tuple[list[Mapping[str, Any]], str | None]]:
        """The conversations of a Page in lists, the last changed first, from a cursor on.

        Each has its newest messages; with each list comes the cursor of the next one, None at the
        end. Each list is requested with a token that is good then.
        """
        params = {
            "platform": "messenger",
            "fields": _CONVERSATION_FIELDS,
            "limit": str(_CONVERSATIONS),
            **({"after": after} if after else {}),
        }
        for found, following in self._lists(f"{page}/conversations", with_token, params, ATTEMPTS):
            yield found, following.get("after") if following else None

    # --- requests -----------------------------------------------------------------------

    def _user_token(self, params: Mapping[str, str]) -> UserToken:
        own = {
            "client_id": self._settings.app_id,
            "client_secret": self._settings.app_secret,
        }
        with _as_asked():
            answer = self._watched("oauth/access_token", None, {**own, **params})
            seconds = answer.get("expires_in")
            return UserToken(
                str(answer["access_token"]), seconds if isinstance(seconds, int) else None
            )

    def _listed(
        self, edge: str, token: str, params: Mapping[str, str], attempts: int
    ) -> Iterator[Mapping[str, Any]]:
        for found, _ in self._lists(edge, lambda call: call(token), params, attempts):
            yield from found

    def _lists(
        self, edge: str, with_token: WithToken, params: Mapping[str, str], attempts: int
    ) -> Iterator[tuple[list[Mapping[str, Any]], dict[str, str] | None]]:
        """Each part of a list, with the parameters of the next one."""
        for _ in range(_MOST_PAGES):
            ask = partial(self._as_much_as_meta_gives, edge, params=params, attempts=attempts)
            answer, asked = with_token(ask)
            with _as_asked():
                found, following = list(answer["data"]), answer.get("paging", {}).get("next")
            if following is None:
                yield found, None
                return
            edge, next_params = self._within_graph(following)
            if "limit" in asked:
                next_params["limit"] = asked["limit"]
            yield found, next_params
            params = next_params
        raise PlatformError(f"the list of {edge} does not end")

    def _as_much_as_meta_gives(
        self, edge: str, token: str, params: Mapping[str, str], attempts: int
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """The answer, and the parameters with the `limit` that was not too much for Meta."""
        while True:
            size = int(params.get("limit", "1"))
            try:
                return self._call("GET", edge, token, params, attempts if size == 1 else 2), dict(
                    params
                )
            except TooMuchData:
                if size == 1:
                    raise
                params = {**params, "limit": str(max(size // 4, 1))}

    def _within_graph(self, following: str) -> tuple[str, dict[str, str]]:
        """Edge and parameters of the address of a next page, which must lead to the Graph API."""
        base = f"{self._settings.graph_url}/{self._settings.version}/"
        if not isinstance(following, str) or not following.startswith(base):
            raise PlatformError(
                "the address of a list's next page is not at the Graph API, and is not requested"
            )
        parts = urlsplit(following)
        prefix = urlsplit(base).path
        return parts.path.removeprefix(prefix), dict(parse_qsl(parts.query))

    def _watched(self, edge: str, token: str | None, params: Mapping[str, str]) -> dict[str, Any]:
        return self._call("GET", edge, token, params, ATTEMPTS_WHILE_WATCHED)

    def _call(
        self,
        method: str,
        edge: str,
        token: str | None,
        params: Mapping[str, str],
        attempts: int = ATTEMPTS,
    ) -> dict[str, Any]:
        all_params = dict(params)
        if token is not None:
            all_params["access_token"] = token
            all_params["appsecret_proof"] = appsecret_proof(token, self._settings.app_secret)
        url = f"{self._settings.graph_url}/{self._settings.version}/{edge}"
        first, _, rest = edge.partition("/")
        page = first if is_id(first) else None

        def ask() -> dict[str, Any]:
            paced = page is not None and rest == "conversations"
            self._budgets.check(page)
            with self._budgets.paced(page or "") if paced else nullcontext():
                if method == "POST":
                    answer = self._outbound.send("POST", url, form=all_params)
                else:
                    answer = self._outbound.send("GET", url, params=all_params)
            self._budgets.note(page, answer)
            if answer.status == 200:
                return answer.document()
            raise self._refusal(page, rest or first, answer)

        return self._outbound.patiently(ask, attempts)

    def _refusal(self, page: str | None, edge: str, answer: Answer) -> PlatformError:
        error = error_of(answer)
        code = error.get("code")
        if limit := limit_of_refusal(code, answer):
            self._budgets.close(page, limit)
            return PlatformBusy(
                f"Meta refused {edge}: too many calls (error {code})",
                "The app will retry.",
                limit.seconds,
            )
        return refusal(edge, code, error.get("error_subcode"), answer.status)


def _targets(data: Mapping[str, Any]) -> tuple[str, ...]:
    """The Pages that a token is for, where the person chose them one by one."""
    chosen = {
        str(target)
        for one in data.get("granular_scopes") or ()
        if one["scope"] in SCOPES
        for target in one.get("target_ids") or ()
    }
    return tuple(sorted(page for page in chosen if is_id(page)))


def _granted(found: Mapping[str, Any]) -> GrantedPage | None:
    page, token = str(found["id"]), found.get("access_token")
    if not is_id(page):
        return None
    name = str(found.get("name") or page)
    return GrantedPage(page, name, token if isinstance(token, str) and token else None)


@contextmanager
def _as_asked() -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, AttributeError) as error:
        raise PlatformError("Meta's answer has an unexpected form") from error
