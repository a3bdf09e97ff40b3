"""`Sending`: customers who write, and the webhooks that tell the bot of it."""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from tests.fakes import delivery
from tests.fakes.asked import Json
from tests.fakes.graph import webhooks
from tests.fakes.graph.state import Conversation, Message, World, digits
from tests.fakes.graph.talk import new_mid
from tests.fakes.serving import Action

MOST_EDITS = 5


class Sending:
    """What is said, and the requests to the bot; each answers with its deliveries."""

    def __init__(self, world: World) -> None:
        self._world = world

    def actions(self) -> Mapping[str, Action]:
        """The control routes."""
        own = (
            self.says,
            self.edits,
            self.hands_over,
            self.events,
            self.webhook,
            self.raw_webhook,
            self.verify,
            self.signed_request,
            self.sign,
            self.burst,
        )
        return {one.__name__: one for one in own}

    async def says(
        self,
        page: str,
        customer: str,
        text: str | None,
        at: int | None,
        mid: str | None,
        name: str | None,
        from_page: bool,
        attachments: list[Json],
    ) -> Json:
        """A message becomes part of the conversation; its event."""
        subject = self._world.page(page)
        talk = subject.conversations.get(customer)
        if talk is None:
            talk = Conversation(f"t_{digits(16)}", customer, name or f"Kundin {customer[-4:]}")
            subject.conversations[customer] = talk
        message = Message(
            mid=mid or new_mid(),
            at=at if at is not None else _now(),
            from_page=from_page,
            text=text,
            attachments=attachments,
        )
        talk.messages[message.mid] = message
        return webhooks.message_event(self._world, subject, talk, message)

    async def edits(self, page: str, customer: str, mid: str, text: str, at: int | None) -> Json:
        """A customer edits a message of theirs, five times at most; its event."""
        subject = self._world.page(page)
        talk = subject.conversations[customer]
        before = talk.messages[mid]
        if before.from_page or before.edits >= MOST_EDITS:
            raise ValueError("only customers edit their messages, five times at most")
        talk.messages[mid] = replace(before, text=text, edits=before.edits + 1)
        return webhooks.edit_event(subject, talk, talk.messages[mid], at or _now())

    async def hands_over(self, page: str, customer: str, kind: str, at: int | None) -> Json:
        """The thread passes from this app to another one, or is taken back; its event."""
        subject = self._world.page(page)
        mine, other = self._world.app_id, str(webhooks.INBOX_APP_ID)
        owners = {
            "pass_thread_control": (mine, other),
            "take_thread_control": (other, mine),
        }
        before, after = owners[kind]
        subject.conversations[customer].elsewhere = after == other
        apps = {"previous_owner_app_id": before, "new_owner_app_id": after}
        return webhooks.handover_event(subject, customer, kind, apps, at or _now())

    async def events(self, page: str, mids: Sequence[str]) -> list[Json]:
        """The events of stored messages, what the bot sent among them."""
        subject = self._world.page(page)
        found = {
            mid: webhooks.message_event(self._world, subject, talk, message)
            for talk in subject.conversations.values()
            for mid, message in talk.messages.items()
        }
        return [found[mid] for mid in mids]

    async def webhook(
        self,
        events: Sequence[Json],
        changes: Sequence[Json],
        order: str,
        grouped: bool,
        standby: bool,
        one_post: bool,
        copies: int,
        retries: int,
        pause: float,
        signature: str,
        signature_header: str | None,
        url: str | None,
    ) -> list[Json]:
        """Send events and changes, in one POST or in one each, and each POST `copies` times."""
        for event in events:
            self._check_subscribed(event)
        entries = webhooks.entries(
            events,
            order,
            grouped=grouped,
            is_elsewhere=lambda event: standby or self._is_elsewhere(event),
        )
        entries += [webhooks.change_entry(**one) for one in changes]
        batches = [entries] if one_post else [[entry] for entry in entries]
        bodies = [
            webhooks.as_meta_writes_it({"object": "page", "entry": batch}) for batch in batches
        ]
        return await self._send(
            [body for body in bodies for _ in range(copies)],
            retries,
            pause,
            signature,
            signature_header,
            url,
        )

    def _check_subscribed(self, event: Json) -> None:
        """Of edits and handovers the platform tells who has subscribed to them."""
        wanted = webhooks.field_of(event)
        subscribed = self._world.page(webhooks.page_of(event)).subscribed or []
        if wanted is not None and wanted not in subscribed:
            raise ValueError(f"the bot has not subscribed to {wanted}")

    def _is_elsewhere(self, event: Json) -> bool:
        """Whether another app owns the thread; a handover is told to both all the same."""
        page = self._world.page(webhooks.page_of(event))
        people = (str(event[end]["id"]) for end in ("sender", "recipient"))
        talks = [page.conversations[one] for one in people if one in page.conversations]
        handover = webhooks.field_of(event) == "messaging_handovers"
        return not handover and any(talk.elsewhere for talk in talks)

    async def raw_webhook(
        self, body: str, signature: str, signature_header: str | None, url: str | None
    ) -> list[Json]:
        """Send these bytes, given in base64."""
        raw = base64.b64decode(body)
        return await self._send([raw], 0, 0.0, signature, signature_header, url)

    async def _send(
        self,
        bodies: Sequence[bytes],
        retries: int,
        pause: float,
        signature: str,
        signature_header: str | None,
        url: str | None,
    ) -> list[Json]:
        address = url or self._world.addresses["webhook"]
        outgoing = [
            webhooks.webhook(self._world, address, body, signature, signature_header)
            for body in bodies
        ]
        async with delivery.new_client() as client:
            return _shown(await delivery.send_in_turn(client, outgoing, retries, pause))

    async def verify(self, mode: str | None, token: str | None, challenge: str | None) -> Json:
        """Ask the webhook address for the challenge; a token of "" is the right one."""
        url = self._world.addresses["webhook"]
        token = self._world.verify_token if token == "" else token
        outgoing = webhooks.verification(url, mode, token, challenge)
        async with delivery.new_client() as client:
            return asdict(await delivery.send(client, outgoing))

    async def signed_request(
        self, address: str, url: str | None, user_id: str | None, signature: str
    ) -> Json:
        """Call the deauthorize or the data deletion address."""
        payload = {
            "user_id": user_id or self._world.user_id,
            "algorithm": "HMAC-SHA256",
            "issued_at": int(time.time()),
        }
        if address == "deletion":
            payload["expires"] = 0
        target = url or self._world.addresses[address]
        outgoing = webhooks.signed_request(self._world, target, payload, signature)
        async with delivery.new_client() as client:
            return asdict(await delivery.send(client, outgoing))

    async def sign(self, body: str) -> str:
        """The right `X-Hub-Signature-256` of these bytes, given in base64."""
        outgoing = webhooks.webhook(self._world, "", base64.b64decode(body), "valid", None)
        return dict(outgoing.headers)["x-hub-signature-256"].decode()

    async def burst(
        self,
        count: int,
        seconds: float,
        pages: Sequence[str],
        customers: int,
        copies: int,
        prefix: str,
    ) -> Json:
        """Messages of many customers, evenly over the time, a POST each, `copies` of each."""
        now = _now()
        senders = [digits(16) for _ in range(customers)]
        mids, outgoing = [], []
        for number in range(count):
            event = await self.says(
                page=pages[number % len(pages)],
                customer=senders[number % customers],
                text=f"{prefix} {number}: grüß dich / {secrets.token_hex(4)}",
                at=now + number,
                mid=None,
                name=None,
                from_page=False,
                attachments=[],
            )
            mids.append(event["message"]["mid"])
            payload: Any = {
                "object": "page",
                "entry": webhooks.entries([event], "given", grouped=False),
            }
            body = webhooks.as_meta_writes_it(payload)
            address = self._world.addresses["webhook"]
            outgoing += [webhooks.webhook(self._world, address, body, "valid", None)] * copies
        async with delivery.new_client() as client:
            deliveries = await delivery.send_at_a_rate(client, outgoing, seconds)
        return {"mids": mids, "customers": senders, "deliveries": _shown(deliveries)}


def _now() -> int:
    """Milliseconds since 1970."""
    return int(time.time() * 1000)


def _shown(deliveries: Sequence[delivery.Delivery]) -> list[Json]:
    return [asdict(one) for one in deliveries]
