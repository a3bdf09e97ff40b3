"""The cookie and the form token of a login, without an app around them."""

from __future__ import annotations

import pytest

from backups.errors import FormRefused
from backups.page.login import LIFETIME_SECONDS, LoginSeal

ADMIN, STATE = "admin-token-0123456789", "state-secret-0123456789"


class Time:
    """A clock that stands until it is moved."""

    now = 1_795_000_000.0

    def __call__(self) -> float:
        return self.now


def test_a_cookie_is_good_for_twelve_hours() -> None:
    """The same login until then, and none after."""
    time = Time()
    seal = LoginSeal(ADMIN, STATE, time)
    cookie = seal.new_cookie()
    login = seal.read(cookie)
    assert login is not None
    time.now += LIFETIME_SECONDS
    assert seal.read(cookie) == login
    time.now += 1
    assert seal.read(cookie) is None


def test_each_login_is_its_own() -> None:
    """Two logins have neither the id nor the form token in common."""
    seal = LoginSeal(ADMIN, STATE)
    one, other = seal.read(seal.new_cookie()), seal.read(seal.new_cookie())
    assert one is not None
    assert other is not None
    assert one.id != other.id
    assert one.form_token != other.form_token


@pytest.mark.parametrize(("admin", "state"), [(ADMIN + "x", STATE), (ADMIN, STATE + "x")])
def test_the_key_is_of_both_secrets(admin: str, state: str) -> None:
    """A change of either ends every login, and no secret is in a cookie."""
    cookie = LoginSeal(ADMIN, STATE).new_cookie()
    assert LoginSeal(admin, state).read(cookie) is None
    assert LoginSeal(ADMIN, STATE).read(cookie) is not None
    assert ADMIN not in cookie


@pytest.mark.parametrize(
    "cookie", ["", ".", "a", "a.b", "a.b.c", "a.b.c.d", "\u00e4.\u00e4.\u00e4", "\x00"]
)
def test_nonsense_is_no_login(cookie: str) -> None:
    """Whatever a client sends as a cookie."""
    assert LoginSeal(ADMIN, STATE).read(cookie) is None


def test_a_signature_of_the_form_is_no_cookie() -> None:
    """The form token of a login, which is in its pages, cannot be made into a cookie."""
    seal = LoginSeal(ADMIN, STATE)
    cookie = seal.new_cookie()
    login = seal.read(cookie)
    assert login is not None
    head = cookie.rpartition(".")[0]
    assert seal.read(f"{head}.{login.form_token}") is None


@pytest.mark.parametrize("given", ["", "x", "\u00e4", "\udcff"])
def test_a_wrong_form_token_is_refused(given: str) -> None:
    """Only the one of this login passes."""
    seal = LoginSeal(ADMIN, STATE)
    login = seal.read(seal.new_cookie())
    assert login is not None
    login.check_form(login.form_token)
    for wrong in (given, login.form_token[:-1], login.form_token + given):
        if wrong != login.form_token:
            with pytest.raises(FormRefused):
                login.check_form(wrong)
