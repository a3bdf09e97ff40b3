"""What the front page shows of Facebook."""

from __future__ import annotations

from shared.merchants.platform import FrontEntry

FRONT = FrontEntry(
    accounts="pages",
    title="Facebook Pages",
    about="This bot keeps copies of your products and of your conversations in Messenger.",
    set_up="Set up the Meta app: FACEBOOK_APP_ID and the others in .env; see docs/bot.md.",
    connect="Connect Facebook Pages: open /facebook/login in the same browser.",
    begin="First connect your Facebook Pages.",
    form='<p><a href="/facebook/login">Connect Facebook Pages</a></p>',
    again=lambda _page: "/facebook/login",
)
