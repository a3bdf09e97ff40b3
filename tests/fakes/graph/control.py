"""`Control`: what the tests can make the stand-in do, one method per control route."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from tests.fakes.asked import Json
from tests.fakes.faults import Fault
from tests.fakes.graph import edges, nodes
from tests.fakes.graph.sending import Sending
from tests.fakes.graph.state import USAGE, VERSION, Page, Paging, World, digits
from tests.fakes.graph.talk import DETAILED_MESSAGES
from tests.fakes.serving import Action


class Control:
    """Settings, Pages, the user's choices, tokens, faults and the record of calls."""

    def __init__(self, world: World) -> None:
        self._world = world

    def actions(self) -> Mapping[str, Action]:
        """The control routes."""
        own = (
            self.reset,
            self.settings,
            self.register,
            self.become,
            self.add_business,
            self.add_config,
            self.add_page,
            self.change_page,
            self.user_grants,
            self.user_declines,
            self.user_refuses,
            self.paging,
            self.omit_expires_in,
            self.uses,
            self.gives_at_most,
            self.spoil,
            self.reads,
            self.page_token_lasts,
            self.fault,
            self.clear_faults,
            self.faults_left,
            self.page_token,
            self.revoke_page_token,
            self.rotate_page_token,
            self.expire_user_tokens,
            self.revoke_user,
            self.foreign_token,
            self.issued,
            self.subscribed,
            self.sent,
            self.messages,
            self.calls,
            self.clear_calls,
        )
        return {**{one.__name__: one for one in own}, **Sending(self._world).actions()}

    async def reset(self) -> None:
        """A new world in the place of the old one."""
        vars(self._world).update(vars(World(self._world.base_url)))

    async def settings(self) -> Json:
        """What the app's owner finds in the dashboard."""
        world = self._world
        return {
            "base_url": world.base_url,
            "version": VERSION,
            "app_id": world.app_id,
            "app_secret": world.app_secret,
            "verify_token": world.verify_token,
            "user_id": world.user_id,
        }

    async def register(
        self,
        redirect_uri: str | None = None,
        webhook: str | None = None,
        deauthorize: str | None = None,
        deletion: str | None = None,
    ) -> None:
        """Enter the bot's addresses in the dashboard; earlier redirect addresses go."""
        if redirect_uri is not None:
            self._world.redirect_uris = {redirect_uri}
        given = {"webhook": webhook, "deauthorize": deauthorize, "deletion": deletion}
        self._world.addresses |= {name: url for name, url in given.items() if url is not None}

    async def become(self, user_id: str | None) -> str:
        """Another person uses the dialog from now on; their id."""
        self._world.user_id = user_id or digits(17)
        return self._world.user_id

    async def add_business(self, name: str) -> str:
        """A new Business Portfolio; its id."""
        business = digits(15)
        self._world.businesses[business] = name
        return business

    async def add_config(self, config_id: str, scopes: Sequence[str]) -> None:
        """A configuration of Facebook Login for Business."""
        self._world.configs[config_id] = list(scopes)

    async def add_page(
        self,
        name: str,
        category: str,
        page_id: str | None,
        business: str | None,
        client: bool,
        withheld: bool,
        values: Json,
    ) -> str:
        """A new Page of the user, or of a Business Portfolio; its id."""
        page_id = page_id or digits(15)
        if set(values) - set(nodes.PAGE):
            raise ValueError(f"a Page has no {set(values) - set(nodes.PAGE)}")
        everything = {
            "id": page_id,
            "name": name,
            "category": category,
            "category_list": [{"id": "2201", "name": category}],
            "link": f"https://www.facebook.com/{page_id}",
            "is_published": True,
            **values,
        }
        self._world.pages[page_id] = Page(
            page_id, everything, business=business, client=client, withheld=withheld
        )
        return page_id

    async def change_page(self, page: str, values: Json) -> None:
        """New metadata."""
        if set(values) - set(nodes.PAGE):
            raise ValueError(f"a Page has no {set(values) - set(nodes.PAGE)}")
        self._world.page(page).values.update(values)

    async def user_grants(self, pages: Sequence[str] | None) -> None:
        """Which Pages the user ticks from now on; None is all."""
        self._world.granted = None if pages is None else list(pages)

    async def user_declines(self, scopes: Sequence[str]) -> None:
        """Which scopes the user takes out from now on."""
        self._world.declined = set(scopes)

    async def user_refuses(self, times: int) -> None:
        """The user clicks "cancel" so many times."""
        self._world.denials = times

    async def paging(self, **details: Any) -> None:
        """How lists are cut; what is not named is as usual."""
        unknown = set(details) - {one.name for one in fields(Paging)}
        if unknown:
            raise ValueError(f"paging has no {unknown}")
        self._world.paging = Paging(**details)

    async def omit_expires_in(self, omit: bool) -> None:
        """Whether token answers leave out when the token expires."""
        self._world.omit_expires_in = omit

    async def uses(self, headers: dict[str, str] | None) -> None:
        """What the usage headers say from now on; None is next to nothing."""
        self._world.usage = dict(USAGE) if headers is None else headers

    async def gives_at_most(self, conversations: int | None) -> None:
        """A list of more conversations is too much data."""
        self._world.most_conversations = conversations

    async def spoil(self, page: str, customer: str, without: str | None) -> None:
        """A conversation is listed without this field; None is as usual."""
        self._world.page(page).conversations[customer].without = without

    async def reads(self, page: str) -> list[str]:
        """The customers whose conversations were listed since the last time, in order."""
        return self._world.reads.pop(page, [])

    async def page_token_lasts(self, page: str, calls: int) -> None:
        """The newest token of a Page expires after so many more calls."""
        if (token := self._world.newest_page_token(page)) is None:
            raise LookupError(f"nobody holds a token of {page}")
        token.calls_left = calls

    async def fault(self, **details: Any) -> None:
        """Program one."""
        self._world.faults.add(Fault(**details))

    async def clear_faults(self) -> None:
        """Forget all that are left."""
        self._world.faults.clear()

    async def faults_left(self) -> int:
        """How many are still to happen."""
        return len(self._world.faults.pending)

    async def page_token(self, page: str) -> str | None:
        """The good token of a Page that was issued last."""
        token = self._world.newest_page_token(page)
        return token.value if token else None

    async def revoke_page_token(self, page: str) -> int:
        """Every token of a Page is void from now on; how many were good."""
        message = "Error validating access token: The session was invalidated explicitly."
        return self._world.kill_page_tokens(page, 466, message)

    async def rotate_page_token(self, page: str) -> str:
        """The old tokens are void, a list of accounts gives the new one: that."""
        old = self._world.newest_page_token(page)
        users = [
            one
            for one in self._world.tokens.values()
            if page in one.pages and not one.dead and one.long_lived
        ]
        if old is None or not users:
            raise LookupError(f"nobody holds a token of {page}")
        await self.revoke_page_token(page)
        return self._world.page_token(page, users[-1]).value

    async def expire_user_tokens(self) -> int:
        """Every token of the user is past its time, the Page tokens are not; how many."""
        user = self._world.user_id
        hit = [
            one
            for one in self._world.tokens.values()
            if one.page is None and not one.dead and one.user == user
        ]
        for one in hit:
            one.expires = time.time() - 1
        return len(hit)

    async def revoke_user(self) -> int:
        """The user removes the app in their settings; how many tokens that made void."""
        return edges.forget_user(self._world)

    async def foreign_token(self) -> str:
        """A user token that was made for somebody else's app."""
        token = self._world.mint(login=0, user="", scopes=["public_profile"], foreign=True)
        return token.value

    async def issued(self) -> list[str]:
        """All that nobody but the bot may know: what was handed out, and the app's own."""
        world = self._world
        tokens = [*world.tokens, world.app_token]
        proofs = [world.proof(token) for token in tokens]
        return [*tokens, *proofs, *world.codes, world.app_secret, world.verify_token]

    async def subscribed(self, page: str) -> list[str] | None:
        """The webhook fields that the bot subscribed to, None before it did."""
        return self._world.page(page).subscribed

    async def sent(self, page: str) -> list[Json]:
        """What the bot sent: recipient, mid and text."""
        return self._world.page(page).sent

    async def messages(self, page: str, customer: str) -> list[Json]:
        """All messages of a conversation, oldest first, with what polling can see of them."""
        talk = self._world.page(page).conversations[customer]
        newest = talk.newest_first()
        visible = {one.mid for one in newest[:DETAILED_MESSAGES]}
        return [{**asdict(one), "detailed": one.mid in visible} for one in reversed(newest)]

    async def calls(self) -> list[Json]:
        """Every request of the bot so far."""
        return [asdict(one) for one in self._world.calls]

    async def clear_calls(self) -> None:
        """Forget them."""
        self._world.calls.clear()
