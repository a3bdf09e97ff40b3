"""`FakeGraph`: starts the stand-in for the Graph API, and makes it do what a test needs."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tests.fakes.delivery import Delivery
from tests.support.fake_deliveries import Burst, deliveries, milliseconds
from tests.support.fake_platform import FakePlatform
from tests.support.fake_process import FakeProcess

Event = dict[str, Any]


@dataclass(frozen=True)
class Said:
    """A message that is part of a conversation, and what came of telling the bot."""

    mid: str
    event: Event
    deliveries: list[Delivery]


@dataclass(frozen=True)
class StoredMessage:
    """A message as the platform keeps it; polling sees the text only of a `detailed` one."""

    mid: str
    at: int
    from_page: bool
    text: str | None
    attachments: list[Any]
    by_app: bool
    detailed: bool
    edits: int = 0


class FakeGraph(FakePlatform):
    """The running stand-in. Edges for faults: `dialog`, `oauth`, `debug_token`, `me`, `accounts`,
    `permissions`, `businesses`, `owned_pages`, `client_pages`, `page`, `subscribed_apps`,
    `conversations`, `conversation`, `conversation_messages`, `message`, `messages` (the Send API),
    `customer`, or `*`.
    """

    def __init__(self, process: FakeProcess) -> None:
        super().__init__(process)
        self._read_settings()

    def _read_settings(self) -> None:
        known = self._process.control("settings")
        self.url: str = known["base_url"]
        self.version: str = known["version"]
        self.app_id: str = known["app_id"]
        self.app_secret: str = known["app_secret"]
        self.verify_token: str = known["verify_token"]
        self.user_id: str = known["user_id"]

    def reset(self) -> None:
        """Another app, another user, no Pages: nothing of what was is left but the address."""
        self._process.control("reset")
        self._read_settings()

    @classmethod
    @contextmanager
    def started(cls) -> Iterator[FakeGraph]:
        """One in a process of its own, for the length of a `with` block."""
        with FakeProcess("tests.fakes.graph") as process:
            yield cls(process)

    def settings(self, bot_url: str | None = None) -> dict[str, str]:
        """The bot's `FACEBOOK_*` settings; with `bot_url` its own addresses, which are registered.

        Those are `/facebook/callback` and `/facebook/webhook` under `bot_url`.
        """
        settings = {
            "FACEBOOK_GRAPH_URL": self.url,
            "FACEBOOK_DIALOG_URL": f"{self.url}/dialog-host",
            "FACEBOOK_GRAPH_VERSION": self.version,
            "FACEBOOK_APP_ID": self.app_id,
            "FACEBOOK_APP_SECRET": self.app_secret,
            "FACEBOOK_VERIFY_TOKEN": self.verify_token,
        }
        if bot_url is not None:
            settings["FACEBOOK_REDIRECT_URI"] = f"{bot_url}/facebook/callback"
            settings["FACEBOOK_WEBHOOK_ADDRESS"] = f"{bot_url}/facebook/webhook"
            self.register(
                redirect_uri=settings["FACEBOOK_REDIRECT_URI"],
                webhook=settings["FACEBOOK_WEBHOOK_ADDRESS"],
            )
        return settings

    def register(
        self,
        *,
        redirect_uri: str | None = None,
        webhook: str | None = None,
        deauthorize: str | None = None,
        deletion: str | None = None,
    ) -> None:
        """Enter the bot's addresses; the dialog refuses every other redirect address."""
        self._process.control(
            "register",
            redirect_uri=redirect_uri,
            webhook=webhook,
            deauthorize=deauthorize,
            deletion=deletion,
        )

    # Pages, and what the user chooses in the dialog

    def become(self, user_id: str | None = None) -> str:
        """Another person uses the dialog from now on, a new one by default; their id."""
        self.user_id = str(self._process.control("become", user_id=user_id))
        return self.user_id

    def add_business(self, name: str = "Käsehaus AG") -> str:
        """A new Business Portfolio; its id."""
        return str(self._process.control("add_business", name=name))

    def add_config(self, config_id: str, *scopes: str) -> None:
        """A configuration of Facebook Login for Business with these permissions."""
        self._process.control("add_config", config_id=config_id, scopes=scopes)

    def add_page(
        self,
        name: str = "Käsehaus",
        *,
        category: str = "Shopping & retail",
        page_id: str | None = None,
        business: str | None = None,
        client: bool = False,
        withheld: bool = False,
        **values: Any,
    ) -> str:
        """A new Page of the user; its id. `values` are further metadata fields.

        With `business` that portfolio owns it, or is its `client`; one that is `withheld` is
        listed without a token.
        """
        answer = self._process.control(
            "add_page",
            name=name,
            category=category,
            page_id=page_id,
            business=business,
            client=client,
            withheld=withheld,
            values=values,
        )
        return str(answer)

    def change_page(self, page: str, **values: Any) -> None:
        """New metadata, which polling sees; `send_webhook(changes=...)` tells the bot."""
        self._process.control("change_page", page=page, values=values)

    def user_grants(self, pages: Sequence[str] | None) -> None:
        """Which Pages the user ticks from now on; None is all."""
        self._process.control("user_grants", pages=pages)

    def user_declines(self, *scopes: str) -> None:
        """Which scopes the user takes out from now on."""
        self._process.control("user_declines", scopes=scopes)

    def user_refuses(self, times: int = 1) -> None:
        """The user cancels the dialog: `error=access_denied` with the state."""
        self._process.control("user_refuses", times=times)

    # Tokens

    def page_token(self, page: str) -> str | None:
        """The good token of a Page that was issued last."""
        token: str | None = self._process.control("page_token", page=page)
        return token

    def revoke_page_token(self, page: str) -> int:
        """Every token of a Page answers 190 from now on; how many were good."""
        return int(self._process.control("revoke_page_token", page=page))

    def rotate_page_token(self, page: str) -> str:
        """The old tokens answer 190, a list of accounts gives the new one: that."""
        return str(self._process.control("rotate_page_token", page=page))

    def expire_user_tokens(self) -> int:
        """The user's tokens answer 190/463; the Page tokens stay good. How many."""
        return int(self._process.control("expire_user_tokens"))

    def revoke_user(self) -> int:
        """The user removes the app: all tokens answer 190/458. How many."""
        return int(self._process.control("revoke_user"))

    def foreign_token(self) -> str:
        """A user token of somebody else's app."""
        return str(self._process.control("foreign_token"))

    def omit_expires_in(self, omit: bool = True) -> None:
        """Token answers do not say when the token expires."""
        self._process.control("omit_expires_in", omit=omit)

    # Faults and paging

    def fail(
        self,
        edge: str,
        code: int,
        *,
        subcode: int | None = None,
        message: str | None = None,
        status: int | None = None,
        times: int | None = 1,
        skip: int = 0,
        subject: str | None = None,
    ) -> None:
        """The next `times` calls of an edge (None: all) answer this error, after `skip` good ones.

        `subject` narrows it to one Page. The HTTP status is 400, and 500 for the codes 1 and 2.
        """
        self._fault(
            edge,
            "error",
            times=times,
            skip=skip,
            subject=subject,
            code=code,
            subcode=subcode,
            message=message,
            status=status,
        )

    def limit(
        self,
        code: int,
        *,
        minutes: int | None = None,
        subject: str | None = None,
        edge: str = "*",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Calls (of one Page) answer this error until `clear_faults`, and say how long it lasts."""
        told = dict(headers or {})
        if minutes is not None:
            case = {"type": "messenger", "call_count": 100, "total_cputime": 20, "total_time": 30}
            cases = {subject or "1": [{**case, "estimated_time_to_regain_access": minutes}]}
            told["x-business-use-case-usage"] = json.dumps(cases)
        self._fault(edge, "error", times=None, skip=0, subject=subject, code=code, headers=told)

    def uses(self, headers: Mapping[str, str] | None) -> None:
        """What the usage headers of every answer say from now on; None is next to nothing."""
        self._process.control("uses", headers=dict(headers) if headers is not None else None)

    def gives_at_most(self, conversations: int | None) -> None:
        """A list of more conversations is too much data: error 1. None is no such limit."""
        self._process.control("gives_at_most", conversations=conversations)

    def spoil(self, page: str, customer: str, without: str | None) -> None:
        """From now on a conversation is listed with null in this field; None is as usual."""
        self._process.control("spoil", page=page, customer=customer, without=without)

    def reads(self, page: str) -> list[str]:
        """The customers whose conversations were listed since this was last called, in order."""
        found: list[str] = self._process.control("reads", page=page)
        return found

    def page_token_lasts(self, page: str, calls: int) -> None:
        """The Page's token answers 190/463 after so many more calls; a new one is to be had."""
        self._process.control("page_token_lasts", page=page, calls=calls)

    def paging(
        self,
        *,
        size: int | None = None,
        empty_page_after: int | None = None,
        next_host: str | None = None,
        endless: bool = False,
    ) -> None:
        """How lists are cut from now on; without arguments as usual.

        At most `size` per page of results; an empty one after so many pages; `next_host` (scheme
        and host) in `paging.next`; `endless` makes that lead to the same page again and again.
        """
        self._process.control(
            "paging",
            size=size,
            empty_page_after=empty_page_after,
            next_host=next_host,
            endless=endless,
        )

    # Messages and webhooks

    def customer_says(
        self,
        page: str,
        sender: str,
        text: str | None,
        at: datetime | None = None,
        *,
        mid: str | None = None,
        name: str | None = None,
        attachments: Sequence[Any] = (),
        deliver: bool = True,
    ) -> Said:
        """A message in the conversation, and by webhook unless `deliver` is false."""
        return self._says(page, sender, text, at, mid, name, attachments, deliver, False)

    def page_says(
        self,
        page: str,
        customer: str,
        text: str | None,
        at: datetime | None = None,
        *,
        mid: str | None = None,
        deliver: bool = True,
    ) -> Said:
        """What a person of the shop writes in the inbox; the bot gets an echo."""
        return self._says(page, customer, text, at, mid, None, (), deliver, True)

    def _says(
        self,
        page: str,
        customer: str,
        text: str | None,
        at: datetime | None,
        mid: str | None,
        name: str | None,
        attachments: Sequence[Any],
        deliver: bool,
        from_page: bool,
    ) -> Said:
        event = self._process.control(
            "says",
            page=page,
            customer=customer,
            text=text,
            at=milliseconds(at),
            mid=mid,
            name=name,
            from_page=from_page,
            attachments=list(attachments),
        )
        sent = self.send_webhook([event]) if deliver else []
        return Said(event["message"]["mid"], event, sent)

    def customer_edits(
        self,
        page: str,
        customer: str,
        mid: str,
        text: str,
        at: datetime | None = None,
        *,
        deliver: bool = True,
    ) -> Event:
        """A customer gives a message of theirs another text; the event, which is also sent."""
        event: Event = self._process.control(
            "edits", page=page, customer=customer, mid=mid, text=text, at=milliseconds(at)
        )
        if deliver:
            self.send_webhook([event])
        return event

    def hand_over(
        self,
        page: str,
        customer: str,
        at: datetime | None = None,
        *,
        back: bool = False,
        deliver: bool = True,
    ) -> Event:
        """Another app gets the thread, or gives it back; the event, which is also sent.

        What is said in a thread that another app owns comes as `standby`.
        """
        kind = "take_thread_control" if back else "pass_thread_control"
        event: Event = self._process.control(
            "hands_over", page=page, customer=customer, kind=kind, at=milliseconds(at)
        )
        if deliver:
            self.send_webhook([event])
        return event

    def postback(
        self, page: str, sender: str, title: str, payload: str, at: datetime, mid: str
    ) -> Event:
        """The event of a pressed button, for `send_webhook`; it is in no conversation."""
        return {
            "sender": {"id": sender},
            "recipient": {"id": page},
            "timestamp": milliseconds(at),
            "postback": {"title": title, "payload": payload, "mid": mid},
        }

    def events_of(self, page: str, *mids: str) -> list[Event]:
        """The events of stored messages, those that the bot sent (echoes) among them."""
        events: list[Event] = self._process.control("events", page=page, mids=mids)
        return events

    def send_webhook(
        self,
        events: Sequence[Event] = (),
        *,
        changes: Sequence[tuple[str, str, Any]] = (),
        order: str = "given",
        grouped: bool = False,
        standby: bool = False,
        one_post: bool = True,
        copies: int = 1,
        retries: int = 0,
        pause: float = 0.05,
        signature: str = "valid",
        signature_header: str | None = None,
        url: str | None = None,
    ) -> list[Delivery]:
        """Send events, and `changes` of (page, field, value); every request that was made.

        One POST with an entry per event, or an entry per Page when `grouped`, or a POST per event
        without `one_post`; as `standby` while another app owns the threads. `order` is given,
        reversed or shuffled. Each POST is sent `copies` times, and again up to `retries` times
        while it is not accepted. `signature` is valid, wrong, other-body, missing or sha1-only;
        `signature_header` is sent instead.
        """
        read = self._process.control(
            "webhook",
            events=list(events),
            changes=[
                {"page": page, "field": field, "value": value} for page, field, value in changes
            ],
            order=order,
            grouped=grouped,
            standby=standby,
            one_post=one_post,
            copies=copies,
            retries=retries,
            pause=pause,
            signature=signature,
            signature_header=signature_header,
            url=url,
        )
        return deliveries(read)

    def send_raw_webhook(
        self,
        body: bytes,
        *,
        signature: str = "valid",
        signature_header: str | None = None,
        url: str | None = None,
    ) -> Delivery:
        """Send exactly these bytes, signed like any others."""
        read = self._process.control(
            "raw_webhook",
            body=base64.b64encode(body).decode(),
            signature=signature,
            signature_header=signature_header,
            url=url,
        )
        return deliveries(read)[0]

    def sign(self, body: bytes) -> str:
        """The right `X-Hub-Signature-256` of these bytes, for a request of one's own."""
        return str(self._process.control("sign", body=base64.b64encode(body).decode()))

    def verify_webhook(
        self,
        *,
        mode: str | None = "subscribe",
        token: str | None = "",
        challenge: str | None = "1158201444",
    ) -> Delivery:
        """Ask the webhook address for the challenge; a `token` of "" is the right one.

        None leaves a parameter out.
        """
        return Delivery(
            **self._process.control("verify", mode=mode, token=token, challenge=challenge)
        )

    def deauthorize(
        self, *, url: str | None = None, user_id: str | None = None, signature: str = "valid"
    ) -> Delivery:
        """Tell the bot that the user removed the app; `signature` as in `request_deletion`."""
        return self._signed_request("deauthorize", url, user_id, signature)

    def request_deletion(
        self, *, url: str | None = None, user_id: str | None = None, signature: str = "valid"
    ) -> Delivery:
        """Ask the bot to delete the user's data; `signature`: valid, wrong, missing, malformed."""
        return self._signed_request("deletion", url, user_id, signature)

    def _signed_request(
        self, address: str, url: str | None, user_id: str | None, signature: str
    ) -> Delivery:
        return Delivery(
            **self._process.control(
                "signed_request", address=address, url=url, user_id=user_id, signature=signature
            )
        )

    def burst(
        self,
        count: int = 500,
        seconds: float = 5.0,
        *,
        pages: Sequence[str],
        customers: int = 20,
        copies: int = 1,
        prefix: str = "burst",
    ) -> Burst:
        """So many messages over the time, a POST each, without waiting for answers in between."""
        read = self._process.control(
            "burst",
            count=count,
            seconds=seconds,
            pages=pages,
            customers=customers,
            copies=copies,
            prefix=prefix,
        )
        return Burst(read["mids"], deliveries(read["deliveries"]))

    # What the platform saw

    def subscribed_fields(self, page: str) -> list[str] | None:
        """What the bot subscribed to, None before it did."""
        fields: list[str] | None = self._process.control("subscribed", page=page)
        return fields

    def sent_messages(self, page: str) -> list[dict[str, str]]:
        """What the bot sent: `recipient`, `mid`, `text`."""
        sent: list[dict[str, str]] = self._process.control("sent", page=page)
        return sent

    def messages(self, page: str, customer: str) -> list[StoredMessage]:
        """A whole conversation, oldest first."""
        read = self._process.control("messages", page=page, customer=customer)
        return [StoredMessage(**one) for one in read]
