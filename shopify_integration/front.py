"""What the front page shows of Shopify: a merchant begins with a shop."""

from __future__ import annotations

from shared.merchants.platform import FrontEntry

FRONT = FrontEntry(
    accounts="shops",
    title="Shops",
    about="",
    set_up="Set up the Shopify app: SHOPIFY_API_KEY and the others in .env; see docs/bot.md.",
    connect="Connect a shop: open /shopify/YOUR-SHOP/login in a browser.",
    begin="First connect your Shopify shop.",
    form=(
        '<form action="/shopify/login" method="get"><p><label for="shop">Your shop: </label>'
        '<input id="shop" name="shop" required autocomplete="off" placeholder="my-shop"> '
        "<button>Connect a shop</button></p></form>"
    ),
    again=lambda shop: f"/shopify/{shop}/login",
)
