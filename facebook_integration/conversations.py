"""`ConversationReader`: a Page's conversations, the last changed first, down to what is stored.

How far they have been read is a document beside them, so that it is gone with them. Source of the
order: developers.facebook.com, Conversations API, `updated_time`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from facebook_integration.graph import Graph
from facebook_integration.models import changed_at, messages_of, with_polled
from facebook_integration.page_documents import PageDocuments, progress_key
from facebook_integration.pages import Pages
from shared.clock import Clock, format_utc, parse_utc
from shared.logs import fields
from shared.merchants.errors import PlatformError

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """What has been read; times are ISO 8601 UTC.

    All that had not changed since `until` is stored, in `stored` documents at least. `after` is
    the cursor of a reading that was cut short: what has changed since `newest` is to be read again
    after it, and all of it if it is not `whole`, as some of it had no time.
    """

    until: str | None = None
    stored: int = 0
    after: str | None = None
    newest: str | None = None
    whole: bool = True


class ConversationReader:
    """Raises `PlatformError`, `StoreError` and `DatabaseError`."""

    def __init__(self, pages: Pages, graph: Graph, documents: PageDocuments, clock: Clock) -> None:
        self._pages = pages
        self._graph = graph
        self._documents = documents
        self._clock = clock

    def read(self, owner: str, page: str) -> None:
        """Store what has changed since the last reading; all, where stored documents are missing.

        A reading that was cut short goes on where it was; then what has changed since it began
        is read.
        """
        before = _progress_of(self._documents.read(progress_key(owner, page)))
        if before.stored > self._documents.conversations(owner, page):
            _log.warning("stored conversations are missing: all are read", extra=fields(page=page))
            before = Progress()
        if before.after is not None:
            try:
                before = self._read(owner, page, before)
            except PlatformError as error:
                if type(error) is not PlatformError:
                    raise
                # A cursor does not last for ever.
                before = replace(before, after=None, newest=None, whole=True)
        self._read(owner, page, before)

    def _read(self, owner: str, page: str, progress: Progress) -> Progress:
        """Read from the cursor on, or from the first; what has been read then."""
        until = parse_utc(progress.until) if progress.until else None
        began_at = self._clock.now()
        lists = self._graph.conversations(
            page, lambda call: self._pages.with_token(page, call), progress.after
        )
        for conversations, after in lists:
            for conversation in conversations:
                at = changed_at(conversation)
                if at is not None and until is not None and at < until:
                    return self._done(owner, page, progress)
                if at is not None and progress.newest is None:
                    progress = replace(progress, newest=format_utc(min(at, began_at)))
                if at is None:
                    progress = replace(progress, whole=False)
                if not self._store(owner, page, conversation) and at is not None:
                    # The next reading comes down to it.
                    progress = replace(progress, newest=format_utc(min(at, began_at)))
            if after is not None:
                progress = replace(progress, after=after)
                self._note(owner, page, progress)
        return self._done(owner, page, progress)

    def _done(self, owner: str, page: str, progress: Progress) -> Progress:
        """Note that a reading came to its end. What was left out is read again by the next one."""
        done = Progress(until=progress.until, stored=progress.stored)
        if progress.whole and progress.newest is not None:
            stored = self._documents.conversations(owner, page)
            done = Progress(until=progress.newest, stored=stored)
        if done != Progress() or progress.after is not None:
            self._note(owner, page, done)
        return done

    def _store(self, owner: str, page: str, conversation: Mapping[str, Any]) -> bool:
        """Store a conversation; False for one that is malformed."""
        try:
            customer, found = messages_of(conversation, page)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            about = fields(page=page, why=type(error).__name__)
            _log.warning("left out: a malformed conversation", extra=about)
            return False
        if found:
            self._documents.tell(owner, page, customer, partial(with_polled, events=found))
        return True

    def _note(self, owner: str, page: str, progress: Progress) -> None:
        document = asdict(progress)
        self._documents.change(owner, page, progress_key(owner, page), lambda _: document)


def _progress_of(document: Any) -> Progress:
    """What was noted; nothing where that cannot be read."""
    try:
        progress = Progress(**document)
        for instant in (progress.until, progress.newest):
            if instant is not None:
                parse_utc(instant)
    except (TypeError, ValueError, AttributeError):
        return Progress()
    fits = isinstance(progress.stored, int) and isinstance(progress.after, str | None)
    return progress if fits else Progress()
