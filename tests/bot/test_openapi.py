"""The OpenAPI document tells the truth about statuses, types and bodies, under random calls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from app import create_app
from tests.support.bot import Bot
from tests.support.fake_graph import FakeGraph
from tests.support.fake_shopify import FakeShopify
from tests.support.installation import ADMIN_TOKEN
from tests.support.s3_server import S3Server

CHECKS = [
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
]
DOCUMENT: dict[str, Any] = create_app().openapi()
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
OPERATIONS = [(method.upper(), path) for path, item in DOCUMENT["paths"].items() for method in item]
# Each of these is a run, with copies of databases and requests to the store.
RUNS = {"run", "verify", "restore", "undo", "drill", "prune", "doctor"}


@dataclass(frozen=True)
class Scratch:
    """An installation to be called at random, and the set and run that are in it."""

    url: str
    set_id: str
    run_id: str


@pytest.fixture(scope="module")
def scratch(
    tmp_path_factory: pytest.TempPathFactory,
    graph: FakeGraph,
    shopify: FakeShopify,
    s3_server: S3Server,
) -> Iterator[Scratch]:
    """With one set, made by one run."""
    folder: Path = tmp_path_factory.mktemp("openapi")
    bucket = s3_server.settings_of_new_bucket()
    with Bot.started(folder, graph, shopify, bucket, BACKUP_CHANGE_DELAY="0") as bot:
        run = bot.installation.json("run")
        yield Scratch(bot.app.url, run["set_id"], run["id"])


@pytest.mark.parametrize("as_admin", [True, False], ids=["admin", "anybody"])
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_an_operation_is_what_its_document_says(
    scratch: Scratch, method: str, path: str, as_admin: bool
) -> None:
    """No status, type or body that is not in it, and no fault of the server."""
    guarded = path.startswith("/admin")
    examples = 25
    if guarded and not as_admin:
        examples = 3  # the guard comes first
    elif method == "POST" and RUNS & set(path.split("/")):
        examples = 6
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"} if as_admin else {}
    known = {"set_id": ["latest", scratch.set_id], "run_id": [scratch.run_id]}
    statuses: set[int] = set()

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=SCHEMA[path][method].as_strategy(), data=st.data())
    def call(case: schemathesis.Case[Any], data: st.DataObject) -> None:
        for name, values in known.items():
            if name in case.path_parameters and data.draw(st.booleans()):
                case.path_parameters[name] = data.draw(st.sampled_from(values))
                if isinstance(case.body, dict) and data.draw(st.booleans()):
                    case.body["confirm"] = scratch.set_id
        response = case.call(base_url=scratch.url, headers=headers, allow_redirects=False)
        statuses.add(response.status_code)
        case.validate_response(response, checks=CHECKS)
        assert response.status_code < 500, response.text

    call()

    if guarded and not as_admin:
        assert statuses == {401}
    elif guarded:
        assert 401 not in statuses
