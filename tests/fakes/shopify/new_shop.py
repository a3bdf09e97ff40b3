"""A shop as it is when a test names no more than its domain."""

from __future__ import annotations

from tests.fakes.asked import Json
from tests.fakes.shopify.state import Shop, new_number, now
from tests.fakes.shopify.views import gid


def new_shop(domain: str, values: Json) -> Shop:
    """The shop; `values` replace fields of GraphQL's `Shop`, and no unknown ones."""
    number = new_number()
    host = f"{domain.removesuffix('.myshopify.com')}.example"
    usual: Json = {
        "name": "Käsehaus",
        "description": None,
        "email": "owner@example.com",
        "contactEmail": "shop@example.com",
        "shopOwnerName": "Mara Händler",
        "primaryDomain": {
            "id": gid("Domain", number),
            "host": host,
            "sslEnabled": True,
            "url": f"https://{host}",
        },
        "url": f"https://{host}",
        "currencyCode": "EUR",
        "currencyFormats": {
            "moneyFormat": "€{{amount_with_comma_separator}}",
            "moneyWithCurrencyFormat": "€{{amount_with_comma_separator}} EUR",
        },
        "enabledPresentmentCurrencies": ["EUR"],
        "ianaTimezone": "Europe/Vienna",
        "timezoneAbbreviation": "CET",
        "timezoneOffset": "+0100",
        "timezoneOffsetMinutes": 60,
        "plan": {
            "partnerDevelopment": False,
            "publicDisplayName": "Basic",
            "shopifyPlus": False,
            "displayName": "Basic",
        },
        "setupRequired": False,
        "taxesIncluded": True,
        "unitSystem": "METRIC_SYSTEM",
        "weightUnit": "KILOGRAMS",
        "shopAddress": {
            "id": gid("ShopAddress", number),
            "address1": "Hauptplatz 1",
            "address2": None,
            "city": "Bregenz",
            "company": "Käsehaus",
            "country": "Austria",
            "countryCodeV2": "AT",
            "phone": None,
            "province": None,
            "zip": "6900",
        },
        "createdAt": now(),
        "updatedAt": now(),
    }
    usual["billingAddress"] = usual["shopAddress"]
    if set(values) - set(usual):
        raise ValueError(f"a shop has no {sorted(set(values) - set(usual))}")
    return Shop(domain, number, {**usual, **values})
