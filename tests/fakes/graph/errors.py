"""`GraphError`: the errors of the Graph API in its own shape."""

from __future__ import annotations

import secrets

from starlette.responses import JSONResponse

# code -> (message, type, HTTP status), as Meta documents its codes.
MESSAGES: dict[int, tuple[str, str, int]] = {
    1: ("An unknown error occurred", "OAuthException", 500),
    2: (
        "An unexpected error has occurred. Please retry your request later.",
        "OAuthException",
        500,
    ),
    4: ("(#4) Application request limit reached", "OAuthException", 400),
    102: ("Session key invalid or no longer valid", "OAuthException", 400),
    341: ("(#341) Application limit reached", "OAuthException", 400),
    10: ("(#10) Application does not have permission for this action", "OAuthException", 400),
    17: ("(#17) User request limit reached", "OAuthException", 400),
    32: ("(#32) Page request limit reached", "OAuthException", 400),
    100: ("(#100) Invalid parameter", "OAuthException", 400),
    104: ("An access token is required to request this resource.", "OAuthException", 400),
    190: (
        "Error validating access token: The session has been invalidated because the user "
        "changed their password or Facebook has changed the session for security reasons.",
        "OAuthException",
        400,
    ),
    200: ("(#200) Permissions error", "OAuthException", 400),
    613: ("(#613) Calls to this api have exceeded the rate limit.", "OAuthException", 400),
    2500: ("Unknown path components", "OAuthException", 400),
}


class GraphError(Exception):
    """An answer that is an error."""

    def __init__(
        self,
        code: int,
        message: str | None = None,
        *,
        subcode: int | None = None,
        kind: str | None = None,
        status: int | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        usual = MESSAGES.get(code, (f"(#{code}) An error occurred", "OAuthException", 400))
        self.code = code
        self.message = message or usual[0]
        self.subcode = subcode
        self.kind = kind or usual[1]
        self.status = status or usual[2]
        self.headers = headers or {}
        super().__init__(self.message)

    def response(self) -> JSONResponse:
        """It as an HTTP answer."""
        error: dict[str, object] = {
            "message": self.message,
            "type": self.kind,
            "code": self.code,
            "fbtrace_id": secrets.token_urlsafe(8),
        }
        if self.subcode is not None:
            error["error_subcode"] = self.subcode
        headers = {"cache-control": "no-store", **self.headers}
        if self.code == 190:
            headers["www-authenticate"] = (
                f'OAuth "Facebook Platform" "invalid_token" "{self.message}"'
            )
        return JSONResponse({"error": error}, status_code=self.status, headers=headers)
