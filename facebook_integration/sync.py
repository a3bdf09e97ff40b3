"""Keeping a Page's documents fresh: by what webhooks tell, and by polling."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from facebook_integration.conversations import ConversationReader
from facebook_integration.errors import PageUnavailable
from facebook_integration.events import CHANGE, MESSAGE, spoken
from facebook_integration.graph import Graph
from facebook_integration.models import with_change, with_told
from facebook_integration.oauth import CONNECTED
from facebook_integration.page_documents import (
    PageDocuments,
    conversation_key,
    folder,
    page_key,
)
from facebook_integration.pages import Pages
from shared.logs import fields
from shared.merchants.errors import PermissionMissing, PlatformError, TokenRefused
from shared.merchants.history.versions import BRING_BACK, Version, version_of
from shared.merchants.inbox import DATA_DELETION, Event, Provider, WaitingEvent
from shared.merchants.marks import Reconnect
from shared.merchants.platform import Connection, Workplace

_log = logging.getLogger(__name__)

# Events about a Facebook user have an account of this form.
PERSON = "person:"
DEAUTHORIZE = "deauthorize"

# What the next minute does not change: a person has to do something.
_LASTING = (TokenRefused, PermissionMissing, PageUnavailable)

_ELSEWHERE = (
    "another account of this bot has connected this Page: ask whoever did to request the deletion "
    "of their data from this app in their Facebook settings, then connect it again"
)


class PageSync:
    """The `Platform` of Facebook. An account is the id of a Page."""

    provider: Provider = "facebook"

    def __init__(self, pages: Pages, graph: Graph, place: Workplace) -> None:
        self._pages = pages
        self._graph = graph
        self._place = place
        self._documents = PageDocuments(place.data, pages)
        self._conversations = ConversationReader(pages, graph, self._documents, place.clock)

    def connections(self, user: str) -> list[Connection]:
        """See `Platform.connections`."""
        marks = self._place.marks.reconnects("facebook")
        unavailable = self._place.marks.unavailable("facebook")
        mine = [
            Connection("facebook", page, marks.get(page), unavailable.get(page))
            for page in self._pages.owned_by(user)
        ]
        elsewhere = self._pages.elsewhere(user).items()
        return mine + [
            Connection("facebook", page, Reconnect(_ELSEWHERE, since))
            for page, since in sorted(elsewhere)
        ]

    def owner(self, account: str) -> str | None:
        """See `Platform.owner`."""
        return self._pages.owner(account)

    def accounts(self) -> list[str]:
        """See `Platform.accounts`."""
        return self._pages.connected()

    def poll(self, account: str) -> None:
        """See `Platform.poll`. The subscription is renewed with it."""
        try:
            self._fetch(account)
        except PageUnavailable as error:
            self._mark(account, error)
            raise
        self._place.marks.clear_unavailable("facebook", account)

    def lane(self, event: Event) -> str:
        """See `Platform.lane`. Each conversation is one, and so are other topics of a Page."""
        if event.topic == MESSAGE and not event.account.startswith(PERSON):
            found = spoken(json.loads(event.body), event.account)
            return f"{MESSAGE} {found.customer if found else ''}"
        if event.topic == BRING_BACK and (version := version_of(event)):
            return f"{MESSAGE} {_customer(version)}"  # the lane of what is brought back
        return "person" if event.account.startswith(PERSON) else event.topic

    def handle(self, account: str, events: Sequence[WaitingEvent]) -> None:
        """See `Platform.handle`. What was said in one conversation is one change of it."""
        if account.startswith(PERSON):
            for waiting in events:
                self._on_person(account.removeprefix(PERSON), waiting.event)
            return
        owner = self._pages.owner(account)
        if owner is None:
            _log.info("dropped: unknown Page", extra=fields(page=account, events=len(events)))
            return
        said: defaultdict[str, list[Mapping[str, Any]]] = defaultdict(list)
        for event in (waiting.event for waiting in events):
            document = json.loads(event.body)
            if event.topic == MESSAGE and (found := spoken(document, account)):
                said[found.customer].append(found.document)
        for customer, documents in said.items():
            self._documents.tell(owner, account, customer, partial(with_told, events=documents))
        for event in (waiting.event for waiting in events):
            if event.topic == BRING_BACK:
                self._bring_back(account, owner, event)
        topics = {waiting.event.topic for waiting in events}
        if CHANGE in topics:
            self._on_changes(account, owner, [w.event for w in events if w.event.topic == CHANGE])
        if CONNECTED in topics:
            self._place.marks.want_first_sync("facebook", account)

    def _fetch(self, page: str) -> None:
        """Each request has the token that is good then."""
        owner = self._pages.owner(page)
        if owner is None:
            raise TokenRefused(f"the Page {page} has no user", "Connect it: /facebook/login")
        self._pages.with_token(page, lambda token: self._graph.subscribe(page, token))
        self._store_page(owner, page, self._metadata(page))
        self._conversations.read(owner, page)

    def _metadata(self, page: str) -> dict[str, Any]:
        return self._pages.with_token(page, lambda token: self._graph.page(page, token))

    def _on_changes(self, page: str, owner: str, events: Sequence[Event]) -> None:
        """Ask for what is true now: news come late and in any order."""
        try:
            self._store_page(owner, page, self._metadata(page))
        except _LASTING as error:
            self._mark(page, error)

            def change(document: Any) -> Any:
                for event in sorted(events, key=_when):
                    document = with_change(document, page, json.loads(event.body))
                return document

            self._documents.change(owner, page, page_key(owner, page), change)

    def _bring_back(self, page: str, owner: str, event: Event) -> None:
        """Add what a version has, and the conversation lacks; what came since it stays.

        What was said between the version and the fault, Meta still tells: it is asked.
        """
        version = version_of(event)
        about = fields(page=page, body=event.body)
        customer = _customer(version) if version else ""
        if version is None or version.document != conversation_key(owner, page, customer):
            _log.warning("dropped: not a version of this Page's conversations", extra=about)
            return
        at = version.received_at
        if at is not None and self._place.marks.was_forgotten(folder(owner, page), at):
            _log.warning("dropped: deleted on request since", extra=about)
            return
        kept = self._place.data.versions.read(version)
        if not isinstance(kept, list):
            _log.error("not brought back: the version is gone or cannot be read", extra=about)
            return
        told = partial(with_told, events=with_told(kept, []))
        self._documents.tell(owner, page, customer, told)
        self._documents.read_all_again(owner, page)
        self._place.marks.want_first_sync("facebook", page)
        _log.warning("brought back: %s", version.key, extra=fields(events=len(kept)))

    def _on_person(self, person: str, event: Event) -> None:
        """A Facebook user removed the app, or asked for their data to be deleted."""
        grantor = self._pages.grantor(person)
        if grantor is None:
            _log.info("nothing is stored of this person", extra=fields(topic=event.topic))
            return
        # Meta tells whole seconds.
        granted_at = grantor.granted_at.replace(microsecond=0)
        if event.sent_at is not None and event.sent_at < granted_at:
            _log.info("dropped: stale", extra=fields(topic=event.topic))
            return
        if event.topic == DATA_DELETION:
            # What is said to a Page is not theirs, as long as somebody else granted the Page.
            alone = self._pages.granted_by_nobody_else(person)
            for page in alone:
                owner = self._pages.owner(page)
                if owner is not None:
                    self._place.marks.note_forgotten(folder(owner, page))
                    self._documents.forget(owner, page)
                    self._place.marks.note_forgotten(folder(owner, page))  # copied meanwhile, too
                self._place.marks.clear_reconnect("facebook", page)
                self._place.marks.clear_unavailable("facebook", page)
            _log.warning("deleted on request", extra=fields(pages=len(alone)))
        for page in self._pages.disconnect(person):
            if self._pages.owner(page) is None:  # deleted
                continue
            self._place.marks.mark_reconnect("facebook", page, "the app was removed at Facebook")
            _log.warning("reconnect: the app was removed", extra=fields(page=page))

    def _store_page(self, owner: str, page: str, document: Mapping[str, Any]) -> None:
        self._documents.change(owner, page, page_key(owner, page), lambda _: document)

    def _mark(self, page: str, error: PlatformError) -> None:
        if isinstance(error, PageUnavailable):
            reason = f"{error.message}. {error.hint}"
            if self._place.marks.mark_unavailable("facebook", page, reason):
                _log.warning("unavailable: %s", reason, extra=fields(page=page))
            return
        if self._place.marks.mark_reconnect("facebook", page, error.message):
            _log.warning("reconnect: %s. %s", error.message, error.hint, extra=fields(page=page))


def _when(event: Event) -> float:
    return event.sent_at.timestamp() if event.sent_at else 0.0


def _customer(version: Version) -> str:
    return version.document.rpartition("/")[2].removesuffix(".json")
