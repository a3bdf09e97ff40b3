"""Who asks: the token of a call, its `appsecret_proof`, and what its scopes allow."""

from __future__ import annotations

import hmac
import time
from dataclasses import dataclass

from tests.fakes.asked import Asked
from tests.fakes.graph.errors import GraphError
from tests.fakes.graph.state import Token, World


@dataclass(frozen=True)
class Presented:
    """The token that a request carries, and where."""

    token: str | None
    place: str | None


def presented(asked: Asked) -> Presented:
    """The token of a request; one in the query outdoes the header."""
    if "access_token" in asked.query:
        return Presented(asked.query["access_token"], "query")
    if "access_token" in asked.body:
        return Presented(str(asked.body["access_token"]), "body")
    scheme, _, value = asked.headers.get("authorization", "").partition(" ")
    if scheme.lower() in ("bearer", "oauth") and value:
        return Presented(value.strip(), "header")
    return Presented(None, None)


def check_proof(world: World, asked: Asked, token: str) -> None:
    """Raise error 100 unless the call proves that it knows the app secret."""
    proof = asked.arguments.get("appsecret_proof")
    if proof is None:
        raise GraphError(
            100,
            "API calls from the server require an appsecret_proof argument",
            kind="GraphMethodException",
        )
    if not hmac.compare_digest(str(proof).encode(), world.proof(token).encode()):
        raise GraphError(
            100,
            "Invalid appsecret_proof provided in the API argument",
            kind="GraphMethodException",
        )


def check_good(token: Token) -> None:
    """Raise error 190 for a token that expired, was revoked, or is another app's."""
    if token.foreign:
        raise GraphError(190, "The access token does not belong to application")
    if token.dead:
        subcode, message = token.dead
        raise GraphError(190, message, subcode=subcode)
    if token.expires is not None and token.expires <= time.time():
        raise GraphError(
            190,
            "Error validating access token: Session has expired.",
            subcode=463,
        )


def _use(token: Token) -> None:
    """One call less of a token that is about to expire."""
    if token.calls_left is None:
        return
    if token.calls_left <= 0:
        token.dead = (463, "Error validating access token: Session has expired.")
        check_good(token)
    token.calls_left -= 1


def token_of(world: World, asked: Asked) -> Token:
    """The good token of a call, proof included; raises what the API answers else."""
    value = presented(asked).token
    if value is None:
        raise GraphError(
            2500, "An active access token must be used to query information about the current user."
        )
    if value not in world.tokens:
        raise GraphError(190, "Invalid OAuth access token - Cannot parse access token")
    token = world.tokens[value]
    check_good(token)
    check_proof(world, asked, value)
    _use(token)
    return token


def page_token_of(world: World, asked: Asked, page_id: str, *scopes: str) -> Token:
    """The token of this very Page, with these scopes."""
    token = token_of(world, asked)
    if token.page is None:
        raise GraphError(
            190, "(#190) This method must be called with a Page Access Token", subcode=2069032
        )
    if page_id not in world.pages or token.page != page_id:
        raise no_such_object(page_id, asked.method)
    for scope in scopes:
        if scope not in token.scopes:
            raise GraphError(200, f"(#200) Requires {scope} permission to manage the object.")
    return token


def no_such_object(name: str, method: str) -> GraphError:
    """The error for an id that does not exist, or that the token may not see."""
    return GraphError(
        100,
        f"Unsupported {method.lower()} request. Object with ID '{name}' does not exist, cannot be "
        "loaded due to missing permissions, or does not support this operation.",
        subcode=33,
        kind="GraphMethodException",
    )


def allow(asked: Asked, *names: str) -> None:
    """Raise error 100 for an argument that this edge does not take."""
    if asked.unreadable:
        raise GraphError(100, f"(#100) The body cannot be read: {asked.unreadable}")
    if asked.doubled:
        raise GraphError(100, f"(#100) Param {asked.doubled[0]} is given twice")
    known = {"access_token", "appsecret_proof", "pretty", "locale", *names}
    unknown = sorted(set(asked.arguments) - known)
    if unknown:
        raise GraphError(100, f"(#100) Param {unknown[0]} is not one of {sorted(names)}")
