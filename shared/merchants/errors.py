"""The errors of talking to a platform, and of what its users and senders give us."""

from __future__ import annotations

from shared.errors import AppError


class PlatformUnset(AppError):
    """The settings of a platform are not there, so its routes are closed."""

    code = "platform_unset"


class PlatformError(AppError):
    """The platform refused a request for a reason not named below."""

    code = "platform_error"


class PlatformUnreachable(PlatformError):
    """No complete answer: refused, timed out, cut off, too large, or not what was asked for."""

    code = "platform_unreachable"


class PlatformBusy(PlatformError):
    """The platform asks to come back later; `wait` is for how many seconds, if it says so."""

    code = "platform_busy"

    def __init__(self, message: str, hint: str = "", wait: float | None = None) -> None:
        super().__init__(message, hint)
        self.wait = wait


class PlatformPreparing(PlatformBusy):
    """What was asked for is being prepared, or fetched already: come back in `wait` seconds."""

    code = "platform_preparing"


class TokenRefused(PlatformError):
    """The token is no longer valid: the merchant has to connect again."""

    code = "reconnect"


class PermissionMissing(PlatformError):
    """The merchant did not grant what the bot needs."""

    code = "platform_permission"


class LoginRefused(AppError):
    """A login cannot be finished: its state, its signature or its browser does not fit."""

    code = "login_refused"


class LoginDenied(AppError):
    """The merchant said no, or granted nothing."""

    code = "login_denied"


class SignatureWrong(AppError):
    """A message does not carry the platform's signature of its bytes."""

    code = "signature_wrong"


class BodyTooLarge(AppError):
    """A request has more bytes than any that the platform sends."""

    code = "body_too_large"


class BodyTooSlow(AppError):
    """A request has not come whole in the time that any platform needs."""

    code = "body_too_slow"


class BodiesTooMany(AppError):
    """What strangers are sending now fills the memory that they may have together."""

    code = "bodies_too_many"


class BodyMalformed(AppError):
    """A request is signed, and is not what the platform sends."""

    code = "body_malformed"


class RequestUnproven(AppError):
    """A request that a platform sends once only is kept, and no backup has it yet."""

    code = "request_unproven"
