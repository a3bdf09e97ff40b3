"""The application: `create_app()` and its lifespan, which opens and closes everything."""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, closing

import uvicorn
from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

from backups.routes import add_problem_handlers, backup_routes
from backups.scheduler import BackupScheduler
from backups.wiring import open_service
from shared.cipher import TokenCipher
from shared.clock import SystemClock
from shared.errors import AppError, SettingsError
from shared.logs import configure_logging
from shared.sessions import SessionStorage
from shared.settings import Settings, load_settings, read_environment
from shared.startup import PlainStartupFailure, explain
from shared.tokens import TokenStorage

_log = logging.getLogger("app")

SWITCH_SECONDS = 0.001


def create_app(settings: Settings | None = None) -> FastAPI:
    """The bot. Without `settings`, the lifespan reads them from the environment and `.env`.

    Nothing is read, opened or started before the lifespan begins, and all of it is closed
    when the lifespan ends.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            try:
                _open(app, stack, settings or load_settings(read_environment(), for_app=True))
            except AppError as error:
                app.state.startup_error = error
                raise
            yield

    app = FastAPI(title="GPT Messenger sales bot", lifespan=lifespan)
    app.add_middleware(PlainStartupFailure)
    app.include_router(backup_routes())
    app.add_api_route("/healthz", healthz, methods=["GET"], summary="Whether the process serves")
    add_problem_handlers(app)
    return app


async def healthz() -> dict[str, str]:
    """200 while the process serves, whatever the backups do.

    On the loop itself: all threads for requests may be waiting for a store.
    """
    return {"status": "ok"}


def _open(app: FastAPI, stack: AsyncExitStack, settings: Settings) -> None:
    # Python's five milliseconds are how long a busy thread, such as a run's, may keep a request
    # from being answered.
    stack.callback(sys.setswitchinterval, sys.getswitchinterval())
    sys.setswitchinterval(SWITCH_SECONDS)
    configure_logging(settings.log_format)
    cipher = TokenCipher(settings.token_encryption_keys)
    app.state.settings = settings
    app.state.backups = stack.enter_context(open_service(settings))
    # Before any storage opens: opening one makes the file that is missing.
    if settings.backup.restore_on_empty:
        app.state.backups.restore_on_empty()
    app.state.backups.note_missing()
    app.state.tokens = stack.enter_context(closing(TokenStorage(settings.token_db_path, cipher)))
    app.state.sessions = stack.enter_context(
        closing(SessionStorage(settings.session_db_path, SystemClock()))
    )
    app.state.executor = stack.enter_context(ThreadPoolExecutor(1, "backup-run"))
    scheduler = BackupScheduler(app.state.backups)
    scheduler.start()
    stack.push_async_callback(run_in_threadpool, scheduler.stop)
    _greet(settings)


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


app = create_app()


def main() -> int:
    """`python app.py`: serve on `HOST` and `PORT`; 2 when the settings cannot be used."""
    try:
        settings = load_settings(read_environment(), for_app=True)
    except SettingsError as error:
        sys.stderr.write(explain(error) + "\n")
        return 2
    uvicorn.run(create_app(settings), host=settings.host, port=settings.port)
    return 0


if __name__ == "__main__":
    sys.exit(main())
