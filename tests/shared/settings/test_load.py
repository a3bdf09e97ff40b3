"""Settings: every fault is found and named, together, and no secret gets out."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from shared.errors import SettingsError
from shared.settings.load import Settings, load_settings, read_environment

FERNET_KEY = Fernet.generate_key().decode()
OLD_FERNET_KEY = Fernet.generate_key().decode()
ADMIN_TOKEN = "admin-token-of-24-letters"
STATE_SECRET = "state-secret-of-24-letters"
API_KEY = "DO00EXAMPLEKEY"
API_SECRET = "example/secret+of=spaces"

SPACES = {
    "SPACES_API_KEY": API_KEY,
    "SPACES_API_SECRET": API_SECRET,
    "SPACES_REGION": "nyc3",
    "SPACES_BUCKET": "my-bucket",
    "SPACES_ENDPOINT": "https://nyc3.digitaloceanspaces.com",
}
SECRETS = {
    "ADMIN_TOKEN": ADMIN_TOKEN,
    "TOKEN_ENCRYPTION_KEYS": FERNET_KEY,
    "STATE_TOKEN_SECRET": STATE_SECRET,
}


def faults_of(values: dict[str, str], *, for_app: bool = False) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        load_settings(values, for_app=for_app)
    return caught.value.faults


def test_defaults_serve_a_newcomer() -> None:
    """With nothing set, every documented default holds and nothing is missing."""
    settings = load_settings({})

    assert settings.token_db_path == Path("data/tokens.db")
    assert settings.session_db_path == Path("data/sessions.db")
    assert settings.backup.schedule.expression == "0 1 * * *"
    assert settings.backup.directory == Path("data/backups")
    assert settings.backup.local_store == Path("data/spaces")
    assert settings.backup.prefix == "backups/"
    assert settings.backup.local_copies == 2
    assert settings.backup.extra_sources == ()
    assert settings.backup.log_directory is None
    assert settings.spaces is None
    assert (settings.host, settings.port, settings.log_format) == ("127.0.0.1", 5000, "human")
    assert settings.admin_token is None
    assert settings.token_encryption_keys == ()
    assert settings.state_token_secret is None


def test_every_value_arrives_where_it_belongs(tmp_path: Path) -> None:
    """Each name in the environment ends up in its own field."""
    ca_file = tmp_path / "ca.pem"
    ca_file.touch()

    settings = load_settings(
        {
            **SPACES,
            **SECRETS,
            "SPACES_CA_BUNDLE": str(ca_file),
            "TOKEN_DB_PATH": "/a/tokens.db",
            "SESSION_DB_PATH": "/a/sessions.db",
            "BACKUP_SCHEDULE": " 30   2 * * 0 ",
            "BACKUP_DIR": "/a/work",
            "BACKUP_LOCAL_STORE": "/a/store",
            "BACKUP_LOCAL_COPIES": "0",
            "BACKUP_LOG_DIR": "/a/logs",
            "HOST": "0.0.0.0",
            "PORT": "65535",
            "LOG_FORMAT": "json",
        }
    )

    assert settings.token_db_path == Path("/a/tokens.db")
    assert settings.session_db_path == Path("/a/sessions.db")
    assert settings.backup.schedule.expression == "30 2 * * 0"
    assert settings.backup.directory == Path("/a/work")
    assert settings.backup.local_store == Path("/a/store")
    assert settings.backup.local_copies == 0
    assert settings.backup.log_directory == Path("/a/logs")
    assert (settings.host, settings.port, settings.log_format) == ("0.0.0.0", 65535, "json")
    assert settings.admin_token == ADMIN_TOKEN
    assert settings.token_encryption_keys == (FERNET_KEY,)
    assert settings.state_token_secret == STATE_SECRET
    assert settings.spaces is not None
    assert (settings.spaces.api_key, settings.spaces.api_secret) == (API_KEY, API_SECRET)
    assert (settings.spaces.region, settings.spaces.bucket) == ("nyc3", "my-bucket")
    assert settings.spaces.endpoint == SPACES["SPACES_ENDPOINT"]
    assert settings.spaces.ca_bundle == str(ca_file)


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("PORT", "0", "from 1 to 65535"),
        ("PORT", "65536", "from 1 to 65535"),
        ("PORT", "-1", "whole number"),
        ("PORT", "5000.0", "whole number"),
        ("PORT", "five", "whole number"),
        ("PORT", "\u0665\u0660\u0660\u0660", "whole number"),  # Arabic digits
        ("PORT", "9" * 5000, "whole number"),
        ("LOG_FORMAT", "xml", "one of: human, json"),
        ("BACKUP_LOCAL_COPIES", "-1", "from 0 to 1000"),
        ("BACKUP_LOCAL_COPIES", "1001", "from 0 to 1000"),
        ("BACKUP_SCHEDULE", "@daily", "five fields"),
        ("BACKUP_SCHEDULE", "61 1 * * *", "not a crontab schedule"),
        ("BACKUP_SCHEDULE", "0 1 1 * 1", "not both"),
        ("BACKUP_PREFIX", "/", "1 to 1024 bytes"),
        ("BACKUP_PREFIX", "/backups", "empty, '.' or '..' part"),
        ("BACKUP_PREFIX", "a/../b", "empty, '.' or '..' part"),
        ("BACKUP_PREFIX", "a\\b", "no backslash"),
        ("BACKUP_PREFIX", ".hidden", "must not begin with a dot"),
        ("BACKUP_EXTRA_SOURCES", "orders", "name=path"),
        ("BACKUP_EXTRA_SOURCES", "orders=", "name=path"),
        ("BACKUP_EXTRA_SOURCES", "=orders.db", "name=path"),
        ("BACKUP_EXTRA_SOURCES", "Orders=orders.db", "a name is a-z"),
        ("BACKUP_EXTRA_SOURCES", f"{'a' * 33}=orders.db", "at most 32 long"),
        ("BACKUP_EXTRA_SOURCES", "tokens=other.db", "tokens is named twice"),
        ("BACKUP_EXTRA_SOURCES", "sessions=other.db", "sessions is named twice"),
        ("BACKUP_EXTRA_SOURCES", "a=1.db,a=2.db", "a is named twice"),
        (
            "BACKUP_EXTRA_SOURCES",
            ",".join(f"s{number}={number}.db" for number in range(7)),
            "at most 8 sources",
        ),
        ("BACKUP_EXTRA_SOURCES", "orders=~no-such-user/orders.db", "no user"),
        ("TOKEN_DB_PATH", "~no-such-user/tokens.db", "no user"),
        ("SESSION_DB_PATH", "~no-such-user/sessions.db", "no user"),
        ("BACKUP_DIR", "~no-such-user/backups", "no user"),
        ("BACKUP_LOCAL_STORE", "~no-such-user/spaces", "no user"),
        ("BACKUP_LOG_DIR", "~no-such-user/logs", "no user"),
        ("ADMIN_TOKEN", "fifteen-letters", "at least 16"),
        ("ADMIN_TOKEN", "sixteen letters and a space", "no space"),
        ("ADMIN_TOKEN", "sechzehn-Zeichen-ä", "ASCII"),
        ("ADMIN_TOKEN", "sixteen-letters\x07and-a-bell", "printable"),
        ("STATE_TOKEN_SECRET", "fifteen-letters", "at least 16"),
        ("STATE_TOKEN_SECRET", "sixteen letters and a space", "no space"),
        ("TOKEN_ENCRYPTION_KEYS", "not-a-key", "44 characters"),
        ("TOKEN_ENCRYPTION_KEYS", f"{FERNET_KEY},not-a-key", "44 characters"),
        ("TOKEN_ENCRYPTION_KEYS", " , ", "at least one"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(name: str, value: str, why: str) -> None:
    """One wrong value gives one line, which names the variable and says what is wrong."""
    faults = faults_of({name: value})

    assert len(faults) == 1
    assert faults[0].startswith(f"{name}: ")
    assert why in faults[0]


@pytest.mark.parametrize("value", ["", "   ", "\t\n"])
def test_blank_means_unset(value: str) -> None:
    """A blank value of any setting is its default, also of the five of Spaces."""
    names = [
        *SPACES,
        *SECRETS,
        "SPACES_CA_BUNDLE",
        "TOKEN_DB_PATH",
        "SESSION_DB_PATH",
        "BACKUP_SCHEDULE",
        "BACKUP_DIR",
        "BACKUP_LOCAL_STORE",
        "BACKUP_PREFIX",
        "BACKUP_LOCAL_COPIES",
        "BACKUP_EXTRA_SOURCES",
        "BACKUP_LOG_DIR",
        "HOST",
        "PORT",
        "LOG_FORMAT",
    ]

    blank = load_settings(dict.fromkeys(names, value))

    unset = load_settings({})
    assert comparable(blank) == comparable(unset)


def comparable(settings: Settings) -> tuple[object, ...]:
    backup = dataclasses.replace(settings.backup, schedule=None)  # type: ignore[arg-type]
    expression = settings.backup.schedule.expression
    return dataclasses.replace(settings, backup=backup), expression


def test_values_are_stripped() -> None:
    """A newline behind a key, as `echo` and copying leave it, does not reach the store."""
    settings = load_settings({name: f" {value}\n" for name, value in {**SPACES, **SECRETS}.items()})

    assert settings.spaces is not None
    assert settings.spaces.api_secret == API_SECRET
    assert settings.spaces.endpoint == SPACES["SPACES_ENDPOINT"]
    assert settings.admin_token == ADMIN_TOKEN
    assert settings.token_encryption_keys == (FERNET_KEY,)


def test_all_faults_come_in_one_message() -> None:
    """Every wrong variable is named at once, so that one look corrects them all."""
    wrong = {
        "PORT": "none",
        "LOG_FORMAT": "xml",
        "BACKUP_SCHEDULE": "never",
        "BACKUP_PREFIX": "..",
        "BACKUP_LOCAL_COPIES": "many",
        "BACKUP_EXTRA_SOURCES": "orders",
        "ADMIN_TOKEN": "short",
        "TOKEN_ENCRYPTION_KEYS": "short",
        "STATE_TOKEN_SECRET": "short",
        "SPACES_BUCKET": "my-bucket",
    }
    named = {*wrong, *SPACES} - {"SPACES_BUCKET"}

    with pytest.raises(SettingsError) as caught:
        load_settings(wrong, for_app=True)

    assert {fault.partition(":")[0] for fault in caught.value.faults} == named
    assert len(caught.value.faults) == len(named)
    assert all(f"\n  {fault}" in str(caught.value) for fault in caught.value.faults)
    assert str(caught.value).startswith(f"{len(named)} settings")


def test_the_app_needs_its_secrets_and_the_backup_commands_do_not() -> None:
    """Only `for_app` asks for the two secrets, and says how to make them."""
    load_settings({}, for_app=False)

    faults = faults_of({}, for_app=True)

    assert [fault.partition(":")[0] for fault in faults] == [
        "TOKEN_ENCRYPTION_KEYS",
        "STATE_TOKEN_SECRET",
    ]
    assert all("make one with: python -c" in fault for fault in faults)
    assert load_settings(SECRETS, for_app=True).state_token_secret == STATE_SECRET


def test_a_malformed_secret_of_the_app_has_one_line() -> None:
    """A secret that is there and malformed is not reported as missing as well."""
    faults = faults_of({"TOKEN_ENCRYPTION_KEYS": "x", "STATE_TOKEN_SECRET": "x"}, for_app=True)

    assert len(faults) == 2
    assert not any("is not set" in fault for fault in faults)


def test_secrets_are_not_in_the_repr() -> None:
    """Printing or logging the settings shows no secret."""
    shown = repr(load_settings({**SPACES, **SECRETS}))

    for secret in (API_KEY, API_SECRET, ADMIN_TOKEN, FERNET_KEY, STATE_SECRET):
        assert secret not in shown
    assert "my-bucket" in shown


@pytest.mark.parametrize(
    "values",
    [
        {**SPACES, "SPACES_API_SECRET": "se cret-value"},
        {**SPACES, "SPACES_API_KEY": "se cret-value"},
        {**SPACES, "SPACES_ENDPOINT": "https://u:secret-value@nyc3.digitaloceanspaces.com"},
        {"SPACES_API_SECRET": "secret-value"},
        {"SPACES_API_KEY": "secret-value"},
        {"ADMIN_TOKEN": "secret-value"},
        {"STATE_TOKEN_SECRET": "secret-value"},
        {"TOKEN_ENCRYPTION_KEYS": "secret-value"},
        {"TOKEN_ENCRYPTION_KEYS": f"{FERNET_KEY},secret-value"},
    ],
)
def test_secrets_are_not_in_the_text_of_an_error(values: dict[str, str]) -> None:
    """A wrong secret is named by its variable and never shown, nor are the right ones."""
    with pytest.raises(SettingsError) as caught:
        load_settings({**values})

    text = f"{caught.value} {caught.value!r} {caught.value.faults} {caught.value.hint}"
    for secret in ("secret-value", "cret-value", API_KEY, API_SECRET, FERNET_KEY):
        assert secret not in text
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("absent", sorted(SPACES))
def test_half_set_spaces_names_what_is_absent(absent: str) -> None:
    """Four of the five settings of Spaces name the fifth, and do not fall back to a folder."""
    faults = faults_of({name: value for name, value in SPACES.items() if name != absent})

    assert faults == (f"{absent}: is not set; set all five SPACES_ settings, or none",)


@pytest.mark.parametrize("present", sorted(SPACES))
def test_one_setting_of_spaces_names_the_other_four(present: str) -> None:
    """One of the five settings of Spaces names the other four."""
    faults = faults_of({present: SPACES[present]})

    assert {fault.partition(":")[0] for fault in faults} == set(SPACES) - {present}


@pytest.mark.parametrize(
    ("endpoint", "why"),
    [
        ("https://my-bucket.nyc3.digitaloceanspaces.com", "bucket in it"),
        ("https://MY-BUCKET.nyc3.digitaloceanspaces.com", "bucket in it"),
        ("https://nyc3.cdn.digitaloceanspaces.com", "CDN"),
        ("https://other.nyc3.cdn.digitaloceanspaces.com", "CDN"),
        ("https://ams3.digitaloceanspaces.com", "not in the region nyc3"),
        ("https://other.nyc3.digitaloceanspaces.com", "not in the region nyc3"),
        ("https://nyc3.digitaloceanspaces.com/my-bucket", "path after the host"),
        ("https://nyc3.digitaloceanspaces.com?x=1", "path after the host"),
        ("https://nyc3.digitaloceanspaces.com#x", "path after the host"),
        ("https://key:word@nyc3.digitaloceanspaces.com", "user name or password"),
        ("https://key@nyc3.digitaloceanspaces.com", "user name or password"),
        ("http://nyc3.digitaloceanspaces.com", "plain http"),
        ("http://192.0.2.1:9000", "plain http"),
        ("http://localhost.example.com", "plain http"),
        ("nyc3.digitaloceanspaces.com", "not an https URL"),
        ("s3://my-bucket", "not an https URL"),
        ("https://", "not an https URL"),
        ("https://nyc3.digitaloceanspaces.com:99999", "not a URL"),
        ("https://nyc3.digitaloceanspaces.com:port", "not a URL"),
        ("https://[::1", "not a URL"),
    ],
)
def test_each_trap_of_the_endpoint_is_refused(endpoint: str, why: str) -> None:
    """An endpoint that cannot be right is refused before the first request, with the reason."""
    faults = faults_of({**SPACES, "SPACES_ENDPOINT": endpoint})

    assert len(faults) == 1
    assert faults[0].startswith("SPACES_ENDPOINT: ")
    assert why in faults[0]


@pytest.mark.parametrize(
    ("endpoint", "kept"),
    [
        ("https://nyc3.digitaloceanspaces.com/", "https://nyc3.digitaloceanspaces.com"),
        ("https://s3.example.com:9000", "https://s3.example.com:9000"),
        ("http://127.0.0.1:9000", "http://127.0.0.1:9000"),
        ("http://localhost:9000", "http://localhost:9000"),
        ("http://[::1]:9000", "http://[::1]:9000"),
    ],
)
def test_an_endpoint_that_can_be_right_is_kept(endpoint: str, kept: str) -> None:
    """Spaces, another S3 server over https, and plain http on the loopback are all fine."""
    spaces = load_settings({**SPACES, "SPACES_ENDPOINT": endpoint}).spaces

    assert spaces is not None
    assert spaces.endpoint == kept


@pytest.mark.parametrize("name", ["ab", "a" * 64, "My-Bucket", "my_bucket", "-bucket", "bucket-"])
def test_a_name_that_no_bucket_has_is_refused(name: str) -> None:
    """A name outside the rules for buckets is found at the start."""
    faults = faults_of({**SPACES, "SPACES_BUCKET": name})

    assert [fault.partition(":")[0] for fault in faults] == ["SPACES_BUCKET"]


def test_a_bucket_name_with_dots_is_fine() -> None:
    """Path-style addressing serves dotted names, so they are not refused."""
    spaces = load_settings({**SPACES, "SPACES_BUCKET": "my.bucket.2026"}).spaces

    assert spaces is not None
    assert spaces.bucket == "my.bucket.2026"


@pytest.mark.parametrize("name", sorted(SPACES))
def test_a_setting_of_spaces_has_printable_ascii_only(name: str) -> None:
    """A pasted no-break space, or a space within, is found at the start."""
    for wrong in (f"{SPACES[name]}\u00a0x", f"{SPACES[name]} x"):
        faults = faults_of({**SPACES, name: wrong})

        assert f"{name}: has a space or a character that is not printable ASCII" in faults


def test_a_ca_bundle_must_be_there(tmp_path: Path) -> None:
    """A missing file for the authority is found at the start."""
    faults = faults_of({**SPACES, "SPACES_CA_BUNDLE": str(tmp_path / "ca.pem")})

    assert faults == (f"SPACES_CA_BUNDLE: there is no file {tmp_path / 'ca.pem'}",)


@pytest.mark.parametrize("prefix", ["daily", "daily/", "daily//"])
def test_a_prefix_ends_with_one_slash(prefix: str) -> None:
    """With or without a slash behind it, a prefix is the same folder."""
    assert load_settings({"BACKUP_PREFIX": prefix}).backup.prefix == "daily/"


def test_extra_sources_are_read_in_order() -> None:
    """`name=path,name=path` gives the sources in that order; spaces and a last comma are fine."""
    settings = load_settings({"BACKUP_EXTRA_SOURCES": " orders = a=b.db , carts=~/carts.db,"})

    assert settings.backup.extra_sources == (
        ("orders", Path("a=b.db")),
        ("carts", Path.home() / "carts.db"),
    )


def test_eight_sources_in_all_are_allowed() -> None:
    """Six more beside tokens and sessions are accepted: a snapshot can attach them all."""
    text = ",".join(f"s{number}={number}.db" for number in range(6))

    assert len(load_settings({"BACKUP_EXTRA_SOURCES": text}).backup.extra_sources) == 6


def test_two_settings_may_not_name_one_file(tmp_path: Path) -> None:
    """One file under two names is refused, also through `..` and a symbolic link."""
    (tmp_path / "link.db").symlink_to(tmp_path / "tokens.db")
    tokens = {"TOKEN_DB_PATH": str(tmp_path / "tokens.db")}

    for same in ("tokens.db", "x/../tokens.db", "link.db"):
        path = str(tmp_path / same)
        assert faults_of({**tokens, "SESSION_DB_PATH": path}) == (
            "SESSION_DB_PATH: names the same file as TOKEN_DB_PATH",
        )
        assert faults_of({**tokens, "BACKUP_EXTRA_SOURCES": f"orders={path}"}) == (
            "BACKUP_EXTRA_SOURCES (orders): names the same file as TOKEN_DB_PATH",
        )


def test_several_fernet_keys_keep_their_order() -> None:
    """The first key encrypts, so the order in the variable is the order in the settings."""
    settings = load_settings({"TOKEN_ENCRYPTION_KEYS": f" {FERNET_KEY} , {OLD_FERNET_KEY},"})

    assert settings.token_encryption_keys == (FERNET_KEY, OLD_FERNET_KEY)


def test_settings_are_frozen() -> None:
    """Nobody changes a setting after it was checked."""
    settings = load_settings(SPACES)

    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.port = 1  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.backup.prefix = "x/"  # type: ignore[misc]


def test_the_environment_wins_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable of the process wins over its line in `.env`, and lines fill the gaps."""
    env_file = tmp_path / ".env"
    env_file.write_text("PORT=6000\nLOG_FORMAT=json\nHOST=\n# BACKUP_DIR=/commented\n")
    monkeypatch.setenv("PORT", "7000")

    values = read_environment(env_file)

    assert values["PORT"] == "7000"
    assert values["LOG_FORMAT"] == "json"
    assert "HOST" not in values
    assert values.get("BACKUP_DIR") != "/commented"


@pytest.mark.parametrize("blank", ["", "  "])
def test_a_blank_variable_leaves_the_line_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blank: str
) -> None:
    """Blank means unset in the environment too: it does not hide the line in `.env`."""
    env_file = tmp_path / ".env"
    env_file.write_text("PORT=6000\n")
    monkeypatch.setenv("PORT", blank)

    assert read_environment(env_file)["PORT"] == "6000"


def test_nothing_in_the_file_is_interpolated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A secret with a dollar sign in `.env` arrives as it was written."""
    monkeypatch.delenv("ADMIN_TOKEN", raising=False)
    env_file = tmp_path / ".env"
    env_file.write_text("ADMIN_TOKEN=a${HOME}b$HOME-and-more\n")

    assert read_environment(env_file)["ADMIN_TOKEN"] == "a${HOME}b$HOME-and-more"


def test_no_file_is_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a `.env`, the environment alone counts."""
    monkeypatch.setenv("PORT", "7000")

    assert read_environment(tmp_path / ".env")["PORT"] == "7000"


def test_reading_leaves_the_environment_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines of `.env` do not leak into the environment of child processes."""
    monkeypatch.delenv("ONLY_IN_FILE", raising=False)
    env_file = tmp_path / ".env"
    env_file.write_text("ONLY_IN_FILE=1\n")

    read_environment(env_file)

    with pytest.raises(KeyError):
        monkeypatch.delenv("ONLY_IN_FILE")


def test_two_hard_links_of_one_file_are_refused_by_both_names(tmp_path: Path) -> None:
    """SQLite would wait for itself: one file that two settings name as hard links is refused."""
    (tmp_path / "tokens.db").write_bytes(b"")
    (tmp_path / "orders.db").hardlink_to(tmp_path / "tokens.db")

    assert faults_of(
        {
            "TOKEN_DB_PATH": str(tmp_path / "tokens.db"),
            "BACKUP_EXTRA_SOURCES": f"orders={tmp_path / 'orders.db'}",
        }
    ) == ("BACKUP_EXTRA_SOURCES (orders): names the same file as TOKEN_DB_PATH",)


COPY = {
    "COPY_API_KEY": "another-key",
    "COPY_API_SECRET": "another-secret",
    "COPY_REGION": "eu-central",
    "COPY_BUCKET": "copies",
    "COPY_ENDPOINT": "https://s3.elsewhere.example",
}


def test_a_second_place_needs_all_five(tmp_path: Path) -> None:
    """With its own limits; without any there is none."""
    assert load_settings({}).copy is None
    found = load_settings({**SPACES, **COPY, "COPY_LOCK_DAYS": "30", "COPY_MBIT": "20"}).copy
    assert found is not None
    assert (found.bucket.bucket, found.bucket.names) == ("copies", "COPY")
    assert (found.every, found.lock_days, found.mbit) == (3600, 30, 20)
    assert "another-secret" not in repr(found)
    for name in COPY:
        with pytest.raises(SettingsError, match=f"{name}: is not set; set all five COPY_ settings"):
            load_settings({**COPY, name: ""})


@pytest.mark.parametrize(
    ("same", "fault"),
    [
        (("ENDPOINT", "BUCKET"), "COPY_BUCKET: is the bucket of SPACES_BUCKET"),
        (("ENDPOINT", "API_KEY"), "COPY_API_KEY: is the key of SPACES_API_KEY"),
    ],
)
def test_a_second_place_is_another_one(same: tuple[str, ...], fault: str) -> None:
    """The same bucket is no copy, and the same key is stolen with the first."""
    taken = {f"COPY_{one}": SPACES[f"SPACES_{one}"] for one in (*same, "REGION")}
    with pytest.raises(SettingsError, match=fault):
        load_settings({**SPACES, **COPY, **taken})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("COPY_EVERY", "59"),
        ("COPY_LOCK_DAYS", "-1"),
        ("COPY_MBIT", "fast"),
        ("COPY_ENDPOINT", "http://elsewhere.example"),
        ("COPY_BUCKET", "A b"),
        ("COPY_CA_BUNDLE", "/no/such/file"),
    ],
)
def test_a_wrong_setting_of_the_second_place_is_named(name: str, value: str) -> None:
    """By its own name, never by one of the first place."""
    with pytest.raises(SettingsError) as raised:
        load_settings({**COPY, name: value})
    assert name in str(raised.value)
    assert "SPACES_" not in str(raised.value)
