"""The application: `create_app()` and its lifespan, which opens and closes everything."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

from backups.routes import add_problem_handlers, backup_routes
from backups.scheduler import BackupScheduler
from backups.wiring import open_service
from shared.cipher import TokenCipher
from shared.clock import SystemClock
from shared.errors import SettingsError
from shared.logs import configure_logging
from shared.sessions import SessionStorage
from shared.settings import Settings, load_settings, read_environment
from shared.tokens import TokenStorage

_log = logging.getLogger("app")


def create_app(settings: Settings | None = None) -> FastAPI:
    """The bot. Without `settings`, the lifespan reads them from the environment and `.env`.

    Nothing is read, opened or started before the lifespan begins, and all of it is closed
    when the lifespan ends.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            given = settings or load_settings(read_environment(), for_app=True)
            configure_logging(given.log_format)
            app.state.settings = given
            cipher = TokenCipher(given.token_encryption_keys)
            app.state.tokens = stack.enter_context(
                closing(TokenStorage(given.token_db_path, cipher))
            )
            app.state.sessions = stack.enter_context(
                closing(SessionStorage(given.session_db_path, SystemClock()))
            )
            app.state.backups = stack.enter_context(open_service(given))
            app.state.executor = stack.enter_context(ThreadPoolExecutor(1, "backup-run"))
            scheduler = BackupScheduler(app.state.backups)
            scheduler.start()
            stack.push_async_callback(run_in_threadpool, scheduler.stop)
            _greet(given)
            yield

    app = FastAPI(title="GPT Messenger sales bot", lifespan=lifespan)
    app.include_router(backup_routes())
    app.add_api_route("/healthz", healthz, methods=["GET"], summary="Whether the process serves")
    add_problem_handlers(app)
    return app


def healthz() -> dict[str, str]:
    """200 while the process serves, whatever the backups do."""
    return {"status": "ok"}


def _greet(settings: Settings) -> None:
    if settings.admin_token is None:
        _log.warning("ADMIN_TOKEN is not set: the admin routes answer 503")
    if settings.spaces is None:
        _log.warning(
            "not offsite: backups go to %s on this host's own disk; set SPACES_* to change that",
            settings.backup.local_store,
        )
    _log.info(
        "admin routes: curl -H \"Authorization: Bearer $(sed -n 's/^ADMIN_TOKEN=//p' .env)\" "
        "http://%s:%d/admin/backups",
        settings.host,
        settings.port,
    )


def _settings_or_exit() -> Settings:
    try:
        return load_settings(read_environment(), for_app=True)
    except SettingsError as error:
        raise SystemExit(explain(error)) from None


def explain(error: SettingsError) -> str:
    """What a person reads when the settings stop the start."""
    first = "" if Path(".env").exists() else "\nThere is no .env here; `make env` writes one."
    return f"{error.message}\n{error.hint}{first}"


app = create_app()

if __name__ == "__main__":
    import sys

    import uvicorn

    try:
        _settings = load_settings(read_environment(), for_app=True)
    except SettingsError as error:
        sys.stderr.write(explain(error) + "\n")
        sys.exit(2)
    uvicorn.run(create_app(_settings), host=_settings.host, port=_settings.port)
