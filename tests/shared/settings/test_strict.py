"""Settings are strict: a misspelt name or a broken line stops, a foreign name does not."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from shared.errors import SettingsError
from shared.settings.env_lines import read_lines
from shared.settings.given import GivenSettings
from shared.settings.load import Settings, load_settings, read_environment
from shared.settings.names import STRICT_PREFIXES, distance
from shared.settings.reader import SettingReader
from tests.support.installation import REPOSITORY, bot_secrets

SECRET = "a-value-that-is-not-repeated"


def load(env_file: str = "", **environment: str) -> Settings:
    """The settings of a `.env` with this content under this environment."""
    lines, faults = read_lines(env_file)
    if faults:
        raise SettingsError(faults)
    return load_settings(GivenSettings(environment, lines))


def faults_of(env_file: str = "", **environment: str) -> list[str]:
    """What stops the start; no value is in it."""
    with pytest.raises(SettingsError) as caught:
        load(env_file, **environment)
    assert SECRET not in caught.value.message
    return list(caught.value.faults)


def unknown_in(settings: Settings) -> list[tuple[str, str, str | None]]:
    return [(one.name, one.place, one.likely) for one in settings.unknown_names]


MISSPELT = [
    ("BACKUP_AGE_RECIPIENT", "BACKUP_AGE_RECIPIENTS"),
    ("BACKUP_NOTIFY_URL", "BACKUP_NOTIFY_URLS"),
    ("BACKUP_KEEPS_CHANGE_HOUR", "BACKUP_KEEP_CHANGES_HOURS"),
    ("BACKUP_SHEDULE", "BACKUP_SCHEDULE"),
    ("BACKUP_SCHEDUEL", "BACKUP_SCHEDULE"),
    ("BACKUP_DIRS", "BACKUP_DIR"),
    ("BACKUPS_DIR", "BACKUP_DIR"),
    ("BAKCUP_DIR", "BACKUP_DIR"),
    ("SPACES_API_KEYS", "SPACES_API_KEY"),
    ("SPACE_REGION", "SPACES_REGION"),
    ("SPACES_ENPOINT", "SPACES_ENDPOINT"),
    ("SPACES_ENDPOINT_", "SPACES_ENDPOINT"),
    ("SPACES_BUKET\u200b", "SPACES_BUCKET"),
]


@pytest.mark.parametrize(("name", "likely"), MISSPELT)
def test_a_misspelt_name_stops_with_its_line_and_the_likely_one(name: str, likely: str) -> None:
    """In `.env`, a name near one of ours stops the start by name, line and likely name."""
    (fault,) = faults_of(f"# first\n\nPORT=5000\n{name}={SECRET}\n")
    assert fault == f"{name}: is not a setting (on line 4 of .env); is {likely} meant?"


@pytest.mark.parametrize(("name", "likely"), MISSPELT)
def test_a_misspelt_name_of_the_environment_stops(name: str, likely: str) -> None:
    """The environment is read as strictly for these prefixes."""
    (fault,) = faults_of(**{name: SECRET})
    assert fault == f"{name}: is not a setting (in the environment); is {likely} meant?"


def test_lower_case_is_misspelt_in_the_file_alone() -> None:
    """`backup_dir` in `.env` is a mistake; in the environment it is another program's."""
    assert "is BACKUP_DIR meant?" in faults_of("backup_dir=/a\n")[0]
    assert unknown_in(load(backup_dir="/a")) == []


def test_what_follows_from_a_misspelt_name_is_not_a_fault_of_its_own() -> None:
    """With four of the five names of a bucket right, the fifth is named once, as misspelt."""
    rest = {
        "SPACES_API_SECRET": "s",
        "SPACES_REGION": "nyc3",
        "SPACES_BUCKET": "my-bucket",
        "SPACES_ENDPOINT": "https://nyc3.digitaloceanspaces.com",
    }
    (fault,) = faults_of("SPACES_API_KEYS=k\n", **rest)
    assert "is SPACES_API_KEY meant?" in fault


def test_faults_of_names_and_values_are_in_one_message() -> None:
    """Whoever corrects a name need not start again to learn of a wrong value."""
    found = faults_of("BACKUP_AGE_RECIPIENT=age1\nLOG_FORMAT=xml\n", BACKUP_SHEDULE="x")
    assert [fault.partition(":")[0] for fault in found] == [
        "BACKUP_SHEDULE",
        "BACKUP_AGE_RECIPIENT",
        "LOG_FORMAT",
    ]


def test_a_blank_misspelt_name_is_unset() -> None:
    """Blank means unset for every name."""
    assert unknown_in(load("BACKUP_AGE_RECIPIENT=\n", SPACES_API_KEYS=" ")) == []


def test_another_name_with_our_prefix_is_a_warning() -> None:
    """A name of a later version, say, is named with its place, and does not stop the start."""
    settings = load("BACKUP_WINDOW=wal\nSPACES_SECRET=s\n", COPY_PREFIX="b")
    assert unknown_in(settings) == [
        ("BACKUP_WINDOW", "on line 1 of .env", None),
        ("SPACES_SECRET", "on line 2 of .env", "SPACES_API_SECRET"),
        ("COPY_PREFIX", "in the environment", None),
    ]


def test_other_families_are_a_warning_in_the_file_alone() -> None:
    """`.env` is ours, so a name there that looks like ours is named; the environment is not."""
    names = (
        "LOG_LEVEL",
        "TOKEN_ENCRYPTION_KEY",
        "ADMN_TOKEN",
        "SESSION_NAME",
        "state_token_secret",
    )
    settings = load("".join(f"{name}=x\n" for name in names))
    assert [(name, likely) for name, _, likely in unknown_in(settings)] == [
        ("LOG_LEVEL", None),
        ("TOKEN_ENCRYPTION_KEY", "TOKEN_ENCRYPTION_KEYS"),
        ("ADMN_TOKEN", "ADMIN_TOKEN"),
        ("SESSION_NAME", None),
        ("state_token_secret", "STATE_TOKEN_SECRET"),
    ]
    assert unknown_in(load(**dict.fromkeys(names, "x"))) == []


def test_the_families_of_a_platform_are_known_where_its_settings_are_read() -> None:
    """The app names `SHOPIFY_API_KY`; the commands, which read no platform, leave it alone."""
    lines, _ = read_lines("SHOPIFY_API_KY=x\n")

    def read(reader: SettingReader) -> None:
        reader.optional("SHOPIFY_API_KEY")

    given = GivenSettings({}, lines)
    (unknown,) = load_settings(given, platforms={"shopify": read}).unknown_names
    assert (unknown.name, unknown.likely) == ("SHOPIFY_API_KY", "SHOPIFY_API_KEY")
    assert load_settings(given).unknown_names == ()


FOREIGN = (
    # Kubernetes, beside services that are called backup, spaces and copy
    *("BACKUP_SERVICE_HOST", "BACKUP_SERVICE_PORT", "BACKUP_PORT", "BACKUP_PORT_80_TCP_ADDR"),
    *("SPACES_PORT_443_TCP", "COPY_SERVICE_PORT_HTTPS", "BACKUP_DIR_SERVICE_HOST"),
    # macOS; shells; continuous integration; pytest; other programs
    *("COPY_EXTENDED_ATTRIBUTES_DISABLE", "COPYFILE_DISABLE", "HOSTNAME", "HOSTTYPE", "LOGNAME"),
    *("CI", "GITHUB_TOKEN", "GITLAB_CI", "RUNNER_NAME", "PYTEST_CURRENT_TEST", "TMPDIR"),
    *("PICKUP_DIR", "LOOKUP_DIR", "PACKUP_DIR_X", "SPACESHIP_ROOT", "STATE_DIRECTORY"),
    *("LOGS_DIRECTORY", "SESSION_MANAGER", "XDG_SESSION_ID", "TOKEN_PATH", "backup_dir"),
)


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_name_of_the_environment_is_left_alone(name: str) -> None:
    """What other programs put into an environment neither stops the start nor is named."""
    assert unknown_in(load(**{name: "x"})) == []


def test_the_example_has_known_names_alone() -> None:
    """`.env.example`, filled in, has no line that is stopped or named, for the commands either."""
    example = re.sub(r"^(\w+)=$", "", (REPOSITORY / ".env.example").read_text(), flags=re.MULTILINE)
    filled = re.sub(r"^#(?=[A-Z_]+=)", "", example, flags=re.MULTILINE)
    secrets = "".join(f"{name}={value}\n" for name, value in bot_secrets().items())
    assert unknown_in(load(filled + secrets)) == []
    assert filled != example


def test_the_example_sets_nothing_and_shows_the_defaults() -> None:
    """A default that changes in a later version changes for whoever copied the example, too; and
    those that it shows are those of the program."""
    example = (REPOSITORY / ".env.example").read_text()
    secrets = "".join(f"{name}={value}\n" for name, value in bot_secrets().items())
    shown = re.sub(r"^#(?=[A-Z_]+=)", "", example, flags=re.MULTILINE)
    defaults = load(secrets)
    assert re.findall(r"^[A-Z_]+=.+", example, re.MULTILINE) == []
    assert load(example + secrets) == defaults
    set_by_hand = replace(load(shown + secrets).backup, change_delay_is_set=False)
    assert replace(load(shown + secrets), backup=set_by_hand) == defaults


def test_a_missing_quote_is_named_with_its_line() -> None:
    """A quote that ends at the next one, eight settings below, stops the start by name and line."""
    names = ("REGION", "BUCKET", "ENDPOINT", "CA_BUNDLE")
    eaten = "".join(f"SPACES_{name}=x\n" for name in names)
    found = faults_of(f'PORT=1\n\nSPACES_API_SECRET="{SECRET}\n{eaten}# as in "the" docs, "here"\n')
    assert found == [
        "line 3, SPACES_API_SECRET: its value goes over 6 lines; close its quote on the same line"
    ]
    (fault,) = faults_of(f"SPACES_API_SECRET='{SECRET}\n{eaten}BACKUP_LOG_DIR='\n")
    assert "line 1, SPACES_API_SECRET: its value goes over 6 lines" in fault


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (f'ADMIN_TOKEN="{SECRET}', ", ADMIN_TOKEN: its quote is not closed on the same line"),
        (f"export ADMIN_TOKEN='{SECRET}", ", ADMIN_TOKEN: its quote is not closed"),
        (f'ADMIN_TOKEN="{SECRET}" or', ", ADMIN_TOKEN: its quote is not closed on the same line"),
        (f"ADMIN_TOKEN {SECRET}", ": cannot be parsed; write NAME=value"),
        (f"={SECRET}", ": cannot be parsed; write NAME=value"),
        ("ADMIN_TOKEN", ", ADMIN_TOKEN: has no `=`; write NAME=value"),
        (SECRET, ": has no `=`; write NAME=value"),
        ("export ADMIN_TOKEN", ", ADMIN_TOKEN: has no `=`"),
        (f"BACKUP_DIR={SECRET}", ", BACKUP_DIR: line 2 gives the same name another value"),
        ("BACKUP_DIR=", ", BACKUP_DIR: line 2 gives the same name another value"),
    ],
)
def test_a_line_that_cannot_be_meant_is_named_with_its_number(line: str, fault: str) -> None:
    """python-dotenv reads on; here the number of the line is named, and nothing secret."""
    (found,) = faults_of(f"# first\nBACKUP_DIR=./data\n\n# third\n\n{line}\n\nPORT=1\n")
    assert found.startswith(f"line 6{fault}")


def test_all_faulty_lines_are_named_at_once() -> None:
    """One look at the file is enough to correct all of it."""
    found = faults_of("PORT\nHOST='a\nLOG_FORMAT=json\nLOG_FORMAT=human\n")
    assert [fault.partition(":")[0] for fault in found] == [
        "line 1",
        "line 2",
        "line 4, LOG_FORMAT",
    ]


@pytest.mark.parametrize(
    "content",
    [
        "BACKUP_DIR=a\nBACKUP_DIR=a\n",
        "BACKUP_DIR=\nBACKUP_DIR=a\n",
        "export BACKUP_DIR=a\n",
        "BACKUP_DIR='a' # a comment\r\n",
        '\ufeffBACKUP_DIR = "a"\n',
        "# it's a comment\n\n  # and \"another\nBACKUP_DIR=a",
    ],
)
def test_sound_lines_are_read(content: str) -> None:
    """The same value twice, a template's blank line above, quotes, `export` and comments do no
    harm."""
    assert load(content).backup.directory == Path("a")


def test_quotes_within_quotes_are_meant() -> None:
    """In `.env`, where quotes are removed, a value that has quotes of its own keeps them."""
    assert load("BACKUP_DIR='\"a\"'\n").backup.directory == Path('"a"')


@pytest.mark.parametrize("name", ["BACKUP_DIR", "TOKEN_DB_PATH", "PORT", "SPACES_CA_BUNDLE"])
@pytest.mark.parametrize("value", ['"a"', "'a'", ' "5000" ', '"'])
def test_quotes_that_came_with_a_value_stop(name: str, value: str) -> None:
    """No database in a folder that is called `"`: quotes in the environment stop by name."""
    assert faults_of(**{name: value}) == [
        f"{name}: begins and ends with a quote, which is part of the value; remove both quotes "
        "(in the environment)"
    ]


def test_a_comment_that_came_with_a_value_stops() -> None:
    """docker run --env-file leaves it in, and the prefix would have it."""
    (fault,) = faults_of(BACKUP_PREFIX="backups/ # of this host")
    assert fault.startswith("BACKUP_PREFIX: has a comment at its end")


@pytest.mark.parametrize("content", ["", 'SPACES_API_SECRET="a\\nb"\n'])
def test_a_line_break_in_a_value_stops(content: str) -> None:
    """systemd, too, goes on to the next quote; what came of it is named."""
    environment = {} if content else {"SPACES_API_SECRET": f"{SECRET}\nSPACES_REGION=nyc3"}
    (fault, *_) = faults_of(content, **environment)
    assert fault.startswith("SPACES_API_SECRET: has a line break in it")


def test_a_folder_in_the_place_of_the_file_stops(tmp_path: Path) -> None:
    """Docker makes a folder where a file to mount is missing: no setting is read from it."""
    (tmp_path / ".env").mkdir()
    with pytest.raises(SettingsError, match=r"\.env: cannot be read: Is a directory"):
        read_environment(tmp_path / ".env")


@pytest.mark.parametrize(
    ("left", "right", "edits"),
    [
        ("DIR", "DIR", 0),
        ("DIR", "DIRS", 1),
        ("DIR", "DRI", 1),
        ("DIR", "DER", 1),
        ("DIR", "IR", 1),
        ("URLS", "URL", 1),
        ("DIR", "LOG", 3),
        ("A", "ABCD", 3),
    ],
)
def test_edits_are_counted(left: str, right: str, edits: int) -> None:
    """A letter added, removed, replaced, or swapped with its neighbour is one edit."""
    assert distance(left, right, most=2) == distance(right, left, most=2) == edits


def test_no_two_settings_are_near_each_other() -> None:
    """Otherwise a misspelling of one might be the other, which nobody could notice."""
    example = (REPOSITORY / ".env.example").read_text()
    names = re.findall(r"^#?([A-Z_]+)=", example, re.MULTILINE)
    ours = [name for name in names if name.startswith(STRICT_PREFIXES)]
    assert len(ours) > 25
    for number, left in enumerate(ours):
        assert all(distance(left, right, most=1) > 1 for right in ours[number + 1 :]), left


@pytest.mark.parametrize("text", ["./data'", '"./data', "“./data”"])
@pytest.mark.parametrize(
    "name",
    ["BACKUP_DIR", "BACKUP_LOCAL_STORE", "TOKEN_DB_PATH", "BACKUP_LOG_DIR", "INBOX_DB_PATH"],
)
def test_a_quote_of_which_the_other_is_missing_makes_no_folder(name: str, text: str) -> None:
    """A path that begins or ends with a quote is refused, wherever it is given."""
    assert "a quote begins or ends a path" in faults_of(**{name: text})[0]
    line = f'{name}="{text}"' if "'" in text else f"{name}='{text}'"
    assert "a quote begins or ends a path" in faults_of(line)[0]


def test_a_quote_in_a_list_of_sources_makes_no_folder() -> None:
    """`name="path"` in a list is no quoting, in `.env` as elsewhere."""
    (fault,) = faults_of('BACKUP_EXTRA_SOURCES=shop="./shop.db"\n')
    assert fault.startswith("BACKUP_EXTRA_SOURCES: ")
    assert fault.endswith("the path of shop begins with a quote; remove the quotes")


@pytest.mark.parametrize("control", ["\0", "\x0b", "\x1b[31m", "\x85", "\u2028"])
@pytest.mark.parametrize("name", ["TOKEN_DB_PATH", "BACKUP_DIR", "BACKUP_AGE_IDENTITY_FILE"])
def test_a_control_character_in_a_path_stops(name: str, control: str) -> None:
    """It is a fault by name, no traceback; what follows may be the next line, and is not said."""
    (fault,) = faults_of(f"{name}=./data{control}ADMIN_TOKEN={SECRET}\n")
    assert fault == f"{name}: is './data' and more: a path has no control characters"


def test_a_name_in_a_path_that_no_file_system_takes_stops() -> None:
    """It is named at the start, and not at the first backup."""
    (fault,) = faults_of(BACKUP_DIR="./" + "x" * 256)
    assert fault.startswith("BACKUP_DIR: is './xxx")
    assert len(fault) < 300
