"""The fields that each kind of node has; any other name is refused."""

from __future__ import annotations

from datetime import UTC, datetime

from tests.fakes.asked import Json
from tests.fakes.graph.fields import Known
from tests.fakes.graph.state import Conversation, Message, Page, World

_PERSON: Known = {"id": None, "name": None, "email": None}

BUSINESS: Known = {"id": None, "name": None}

USER: Known = {"id": None, "name": None, "first_name": None, "last_name": None}

CUSTOMER: Known = {
    "id": None,
    "name": None,
    "first_name": None,
    "last_name": None,
    "profile_pic": None,
}

PAGE: Known = {
    "id": None,
    "name": None,
    "username": None,
    "category": None,
    "category_list": {"id": None, "name": None},
    "about": None,
    "description": None,
    "link": None,
    "website": None,
    "phone": None,
    "emails": None,
    "fan_count": None,
    "followers_count": None,
    "hours": None,
    "is_published": None,
    "verification_status": None,
    "single_line_address": None,
    "location": {"city": None, "country": None, "street": None, "zip": None},
    "picture": {"data": None, "url": None},
    "cover": {"id": None, "source": None},
}

ACCOUNT: Known = {**PAGE, "access_token": None, "tasks": None}

MESSAGE: Known = {
    "id": None,
    "created_time": None,
    "from": _PERSON,
    "to": _PERSON,
    "message": None,
    "attachments": {
        "id": None,
        "mime_type": None,
        "name": None,
        "size": None,
        "image_data": None,
        "file_url": None,
        "video_data": None,
    },
    "shares": None,
    "sticker": None,
    "tags": None,
    "reactions": None,
}

CONVERSATION: Known = {
    "id": None,
    "link": None,
    "snippet": None,
    "updated_time": None,
    "message_count": None,
    "unread_count": None,
    "can_reply": None,
    "participants": _PERSON,
    "senders": _PERSON,
    "messages": MESSAGE,
}

# What `subscribed_fields` may name; the platform knows more that a sales bot has no use for.
SUBSCRIBABLE = {
    "about",
    "category",
    "description",
    "email",
    "feed",
    "hours",
    "leadgen",
    "location",
    "mention",
    "message_deliveries",
    "message_echoes",
    "message_edits",
    "message_reactions",
    "message_reads",
    "messages",
    "messaging_account_linking",
    "messaging_feedback",
    "messaging_handovers",
    "messaging_optins",
    "messaging_policy_enforcement",
    "messaging_postbacks",
    "messaging_referrals",
    "name",
    "phone",
    "picture",
    "standby",
    "website",
}


def graph_time(milliseconds: int) -> str:
    """A time as the Graph API writes it: whole seconds, and an offset without a colon."""
    return datetime.fromtimestamp(milliseconds // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S+0000")


def person(name: str, person_id: str) -> Json:
    """Somebody who writes or is written to."""
    return {"name": name, "email": f"{person_id}@facebook.com", "id": person_id}


def message_values(page: Page, talk: Conversation, message: Message) -> Json:
    """A message with all its details."""
    shop = person(page.values["name"], page.id)
    customer = person(talk.customer_name, talk.customer)
    sender, receiver = (shop, customer) if message.from_page else (customer, shop)
    values: Json = {
        "id": message.mid,
        "created_time": graph_time(message.at),
        "from": sender,
        "to": {"data": [receiver]},
        "message": message.text or "",
    }
    if message.attachments:
        values["attachments"] = {"data": message.attachments}
    return values


def conversation_values(page: Page, talk: Conversation) -> Json:
    """A conversation without its messages."""
    customer = person(talk.customer_name, talk.customer)
    newest = talk.newest_first()[:1]
    return {
        "id": talk.id,
        "link": f"/{page.id}/inbox/{talk.id.removeprefix('t_')}/",
        "snippet": newest[0].text if newest else None,
        "updated_time": graph_time(talk.updated),
        "message_count": len(talk.messages),
        "unread_count": 0,
        "can_reply": True,
        "participants": {"data": [customer, person(page.values["name"], page.id)]},
        "senders": {"data": [customer, person(page.values["name"], page.id)]},
    }


def customer_values(world: World, customer: str) -> Json | None:
    """The profile of somebody who has written to a Page."""
    for page in world.pages.values():
        talk = page.conversations.get(customer)
        if talk:
            first, _, last = talk.customer_name.partition(" ")
            return {
                "id": customer,
                "name": talk.customer_name,
                "first_name": first,
                "last_name": last,
                "profile_pic": f"{world.base_url}/pictures/{customer}.jpg",
            }
    return None
