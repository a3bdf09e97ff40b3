"""The application: `create_app()` and its lifespan, which opens and closes everything."""

from __future__ import annotations

from shared.interpreter import explain_missing_packages

if __name__ == "__main__":
    explain_missing_packages()

import argparse
import logging
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import (
    AsyncExitStack,
    asynccontextmanager,
    closing,
    contextmanager,
    nullcontext,
    suppress,
)
from datetime import datetime
from functools import cache, partial

import uvicorn
from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool
from uvicorn.config import LOGGING_CONFIG

from backups.doctor.after_change import CheckAfterChange
from backups.http.metrics import metrics_routes
from backups.http.routes import STATUSES, backup_routes
from backups.operations.own_sets import LATEST
from backups.operations.second.choice import Place, why_second
from backups.page.routes import add_page, open_page
from backups.scheduling.asked_steps import AskedSteps
from backups.scheduling.copier import Copier
from backups.scheduling.scheduler import PATIENCE_AT_SHUTDOWN_SECONDS, BackupScheduler, LeaderJob
from backups.service import GRACE_AT_SHUTDOWN_SECONDS, BackupService
from backups.sets.second.documents import Fate
from backups.sources.engine.live_data import LiveData
from backups.wiring import (
    build_second_bucket,
    build_store,
    open_second_service,
    open_service,
    open_stand_in,
)
from facebook_integration.wiring import PLATFORM as FACEBOOK
from shared.clock import SystemClock
from shared.databases.binder import TokenBinder
from shared.databases.cipher import TokenCipher
from shared.databases.sessions import SessionStorage
from shared.databases.tokens import TokenStorage
from shared.errors import (
    AppError,
    DatabaseUnreachable,
    HostLeaving,
    ObjectMissing,
    SettingsError,
    StoreError,
)
from shared.logs import configure_logging
from shared.merchants.browser_sessions import BrowserSessions, SessionIds
from shared.merchants.documents import MerchantData
from shared.merchants.front_page import front_routes, index_owners
from shared.merchants.history.keys import AccountFolder
from shared.merchants.http_client import Outbound
from shared.merchants.inbox import Inbox, open_inbox
from shared.merchants.inbox_worker import InboxWorker
from shared.merchants.login_state import StateTokens
from shared.merchants.marks import Marks
from shared.merchants.platform import Platform, PlatformDefinition, Workplace
from shared.merchants.polling import FirstSyncs, Polling
from shared.merchants.protected.requests import ProtectedRequests
from shared.merchants.statuses import PLATFORM_STATUSES
from shared.merchants.sync_routes import sync_routes
from shared.process.lasting_work import Supervisor
from shared.process.responsiveness import responsive
from shared.process.service_manager import announced
from shared.process.termination import Departure, after_termination, delayed_termination
from shared.settings.load import Settings, load_settings, read_environment, read_manager
from shared.store.object_store import Interruptible
from shared.web.address import check_address
from shared.web.built_routes import build_routes
from shared.web.held_connections import RequestHeadLimit, RequestsInHand
from shared.web.problem_handlers import add_problem_handlers, documented
from shared.web.security_headers import SecurityHeaders
from shared.web.startup_errors import PlainStartupFailure, explain
from shopify_integration.wiring import PLATFORM as SHOPIFY

# Of one process; the server answers 503 to more of them, without reading what they send.
MOST_CONNECTIONS = 1000

# A merchant begins with the first.
PLATFORMS: tuple[PlatformDefinition, ...] = (SHOPIFY, FACEBOOK)

_log = logging.getLogger("app")


def create_app(
    settings: Settings | None = None,
    *,
    address: str | None = None,
    platforms: Sequence[PlatformDefinition] = PLATFORMS,
) -> FastAPI:
    """The bot. Without `settings`, the lifespan reads them from the environment and `.env`.

    `address` is where it is served, if the caller knows: it is named in the log. Of the
    `platforms`, those work whose settings are there.

    Nothing is read, opened or started before the lifespan begins, and all of it is closed
    when the lifespan ends.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            build_routes(app)
            try:
                _open(app, stack, settings or read_settings(platforms=platforms), platforms)
            except AppError as error:
                app.state.startup_error = error
                raise
            delay = app.state.settings.shutdown_delay
            # The last to handle signals, so that what they begin begins after the delay.
            app.state.departure = stack.enter_context(delayed_termination(delay))
            _greet(app.state.settings, address)
            async with announced(read_manager(), app.state.supervisor.signs):
                yield

    # A redirect to the path without its slash would go to the host that the request names.
    # The pages for /docs would load scripts from elsewhere, beside the merchants' cookies.
    app = FastAPI(
        title="GPT Messenger sales bot",
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
    )
    app.add_middleware(PlainStartupFailure)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(RequestsInHand)
    app.include_router(front_routes(platforms))
    for platform in platforms:
        app.include_router(platform.routes())
    app.include_router(backup_routes())
    app.include_router(sync_routes())
    app.include_router(metrics_routes())
    add_page(app)
    app.add_api_route("/healthz", healthz, methods=["GET"], summary="Whether the process serves")
    app.add_api_route("/healthz", healthz, methods=["HEAD"], include_in_schema=False)
    app.add_api_route(
        "/readyz",
        readyz,
        methods=["GET"],
        summary="Whether this host is to be sent requests",
        responses=documented(PLATFORM_STATUSES, DatabaseUnreachable, HostLeaving),
    )
    own = [status for platform in platforms for status in platform.statuses]
    add_problem_handlers(app, (*STATUSES, *own, *PLATFORM_STATUSES))
    return app


def read_settings(
    values: Mapping[str, str] | None = None,
    platforms: Sequence[PlatformDefinition] = PLATFORMS,
) -> Settings:
    """The settings of the app and its platforms, of `values` or of the environment and `.env`.

    Raises `SettingsError`.
    """
    readers = {platform.name: platform.read_settings for platform in platforms}
    if values is None:
        values = read_environment()
    return load_settings(values, for_app=True, platforms=readers)


async def healthz() -> dict[str, str]:
    """200 while the process serves, whatever the backups do.

    On the loop itself: all threads for requests may be waiting for a store.
    """
    return {"status": "ok"}


def readyz(request: Request) -> dict[str, str]:
    """200 while the databases can be used, and this host is not about to stop.

    A load balancer sends nothing here meanwhile.
    """
    departure: Departure = request.app.state.departure
    if departure.begun:
        raise HostLeaving(
            "this host was asked to stop, and takes the last requests",
            "Nothing to do: send requests to another host.",
        )
    request.app.state.sessions.count()
    request.app.state.marks.last_sync()
    return {"status": "ready"}


def _open(
    app: FastAPI,
    stack: AsyncExitStack,
    settings: Settings,
    platforms: Sequence[PlatformDefinition],
) -> None:
    _configure_logging(settings, platforms)
    cipher = TokenCipher(settings.token_encryption_keys)
    app.state.settings = settings
    app.state.supervisor = Supervisor()
    app.state.backups = stack.enter_context(open_service(settings))
    app.state.opened_for_requests = set()
    app.state.second = second = _reading_second(stack, settings, app.state.opened_for_requests)
    stack.enter_context(open_page(app, app.state.backups, *([second] if second else [])))
    # Before any storage opens: opening one makes the file that is missing.
    if settings.backup.restore_on_empty:
        # The server looks at a signal only once it has started.
        with after_termination(0, app.state.backups.stop):
            _restore_missing(settings, app.state.backups)
    app.state.backups.restore_on_empty.note_missing()
    live = app.state.backups.live
    tokens = live.database("tokens") if live.is_shared else settings.token_db_path
    sessions = live.database("sessions") if live.is_shared else settings.session_db_path
    app.state.tokens = stack.enter_context(closing(TokenStorage(tokens, cipher)))
    app.state.sessions = stack.enter_context(closing(SessionStorage(sessions, SystemClock())))
    app.state.executor = stack.enter_context(ThreadPoolExecutor(1, "backup-run"))
    # Its thread begins now: a run that has its lease must not wait for one that cannot begin.
    app.state.executor.submit(lambda: None)
    sync = _open_bot(app, stack, settings, platforms)
    check = CheckAfterChange(settings, app.state.backups)
    jobs = [sync, _binding(app, platforms), _checks(check), *_copying(app)]
    scheduler = BackupScheduler(
        app.state.backups, jobs, supervisor=app.state.supervisor, changed=check.changed
    )
    scheduler.start()
    stack.push_async_callback(run_in_threadpool, scheduler.stop)
    # The server waits for open requests first, and they may wait for the store.
    stack.enter_context(after_termination(PATIENCE_AT_SHUTDOWN_SECONDS, scheduler.give_up))
    stack.enter_context(responsive())


def _reading_second(
    stack: AsyncExitStack, settings: Settings, opened: set[BackupService]
) -> BackupService | None:
    """A service that takes the second place, if there is one, for the store: for routes.

    It stops with the app, and so do those that are `opened` for a request of it.
    """
    if settings.copy is None:
        return None
    second = stack.enter_context(open_second_service(settings))

    def stop() -> None:
        for service in (second, *tuple(opened)):
            service.stop()

    stack.enter_context(after_termination(PATIENCE_AT_SHUTDOWN_SECONDS, stop))
    return second


def _restore_missing(settings: Settings, service: BackupService) -> None:
    """Restore what is missing, from the second place where the first is away, or has older points.

    Raises `AppError` where the bot must not start empty.
    """
    if settings.copy is None or not service.own_sets.missing_sources():
        service.restore_on_empty.restore_missing()
        return
    failure: AppError | None = None
    with open_second_service(settings) as second, after_termination(0, second.stop):
        places = [service, second]
        if _second_is_better(service, second):
            places.reverse()
        for place in places:
            try:
                done = place.restore_on_empty.restore_missing()
            except AppError as error:
                failure = failure or error
            else:
                failure = failure if done is None else None
            if not service.own_sets.missing_sources():
                return
    if failure is not None:
        raise failure


def _second_is_better(service: BackupService, second: BackupService) -> bool:
    here = Place(service.catalogue, service.restore)
    try:
        why = why_second(here, Place(second.catalogue, second.restore), LATEST, None)
    except StoreError:  # what asks it says so
        return False
    if why is not None:
        _log.warning("what is missing comes from the second place: %s", why)
    return why is not None


def _configure_logging(settings: Settings, platforms: Sequence[PlatformDefinition]) -> None:
    configure_logging(
        settings.log_format,
        packages=[platform.package for platform in platforms],
        secret_names=[name for platform in platforms for name in platform.secret_names],
    )


def _open_bot(
    app: FastAPI,
    stack: AsyncExitStack,
    settings: Settings,
    definitions: Sequence[PlatformDefinition],
) -> LeaderJob:
    """The bot's side: what its routes work with, and the work that one process does."""
    clock = SystemClock()
    live: LiveData = app.state.backups.live
    database, leading = (
        (live.database("inbox"), live.database("inbox", fenced=True))
        if live.is_shared
        else [stack.enter_context(closing(open_inbox(settings.inbox_db_path)))] * 2
    )
    marks = Marks(database, clock)
    store = build_store(settings)
    second = cache(partial(build_second_bucket, settings)) if settings.copy else None
    inbox, proof = Inbox(database, clock), AskedSteps(app.state.backups)
    requests = ProtectedRequests(app.state.tokens.requests, inbox, clock, proof)
    place = Workplace(
        tokens=app.state.tokens,
        inbox=inbox,
        requests=requests,
        marks=marks,
        data=(data := MerchantData(store, clock, second)),
        outbound=stack.enter_context(closing(Outbound())),
        states=StateTokens(settings.state_token_secret or "", marks.use_state, clock),
        clock=clock,
    )
    app.state.marks = marks
    app.state.browsers = BrowserSessions(
        app.state.sessions, SessionIds(settings.token_encryption_keys), settings.cookies_secure
    )
    app.state.interfaces = {}
    platforms: list[Platform] = []
    for definition in definitions:
        if own := settings.platforms.get(definition.name):
            interface, platform = definition.build(own, place, app.state.browsers)
            app.state.interfaces[definition.name] = interface
            platforms.append(platform)
    app.state.platforms = platforms
    index_owners(platforms)
    by_provider = {platform.provider: platform for platform in platforms}
    supervisor = app.state.supervisor
    worker = InboxWorker(
        Inbox(leading, clock),
        by_provider,
        clock,
        supervisor,
        workers=settings.inbox_workers,
        requests=requests,
    )
    first_syncs = FirstSyncs(by_provider, Marks(leading, clock), supervisor)
    polling = Polling(
        platforms, Marks(leading, clock), settings.sync_schedule, clock, tidy=data.versions.expire
    )

    _do_requests(app.state.backups, lambda: requests.do(by_provider))

    @contextmanager
    def working() -> Iterator[None]:
        with first_syncs.running(), worker.running():
            yield

    def stop() -> None:
        polling.stop()
        place.outbound.close()
        if isinstance(store, Interruptible):
            store.give_up(GRACE_AT_SHUTDOWN_SECONDS)

    return LeaderJob("sync", settings.sync_schedule, polling.poll_if_owed, working, stop)


def _do_requests(backups: BackupService, do: Callable[[], None]) -> None:
    """Do what a restore has left undone, unless another process leads: that one does it."""
    held = backups.directory.scheduler_lease.try_acquire()
    if held is None:
        return
    try:
        do()
    finally:
        held.release()


def _binding(app: FastAPI, definitions: Sequence[PlatformDefinition]) -> LeaderJob:
    """The work of binding the values of an older `tokens.db` to their rows, after a backup."""
    backup = app.state.backups.backup

    def fits(key: str, value: str) -> bool:
        return all(definition.fits(key, value) for definition in definitions)

    def protect() -> bool:
        with suppress(ObjectMissing):  # that is an answer
            backup.ask_store()
        return bool(backup.begin().execute().status == "succeeded")

    binder = TokenBinder(app.state.tokens, fits, protect)
    return LeaderJob("binding", None, binder.work, nullcontext, binder.stop)


def _checks(check: CheckAfterChange) -> LeaderJob:
    """The examination after a change of settings; what it waits for, the service gives up."""
    return LeaderJob("checks", None, check.work, nullcontext, lambda: None)


def _copying(app: FastAPI) -> list[LeaderJob]:
    """The work of copying to the second place, where there is one."""
    service = app.state.backups
    if service.second is None:
        return []
    platforms: dict[str, Platform] = {one.provider: one for one in app.state.platforms}

    def fate_of(folder: str, at: datetime) -> Fate:
        if app.state.marks.was_forgotten(folder, at):
            return "forgotten"
        found = AccountFolder.of_key(folder)
        platform = platforms.get(found.platform) if found else None
        if found is None or platform is None or platform.owner(found.account) != found.user:
            return "unknown"
        return "kept"

    if service.second.documents is not None:
        service.second.documents.fate_of = fate_of
    app.state.copier = copier = Copier(
        service, service.second, lambda: open_stand_in(app.state.settings)
    )
    return [LeaderJob("copier", None, copier.work, nullcontext, service.second.stop)]


def _greet(settings: Settings, address: str | None) -> None:
    if settings.admin_token is None:
        _log.warning("ADMIN_TOKEN is not set: the admin routes answer 503")
    if settings.spaces is None:
        _log.warning(
            "not offsite: backups go to %s on this host's own disk; set SPACES_* to change that",
            settings.backup.local_store,
        )
    for unknown in settings.unknown_names:
        _log.warning("%s. %s", unknown.message, unknown.hint)
    where = address or "ADDRESS"  # uvicorn's own options are not ours to know: it names it
    _log.info("the page: %s/admin/", where)
    _log.info(
        "admin routes: curl -H \"Authorization: Bearer $(sed -n 's/^ADMIN_TOKEN=//p' .env)\" "
        "%s/admin/backups",
        where,
    )


app = create_app()


def main() -> int:
    """`python app.py`: serve on `HOST` and `PORT`.

    2 when the settings cannot be used, 1 when the address cannot be used now. Argparse exits with
    2 on an option that it does not know.
    """
    argparse.ArgumentParser(
        prog="python app.py",
        description="Start the app: the bot, its backups, and their page. It takes no options; "
        "the settings are in the environment or in .env (docs/settings.md), such as HOST and PORT.",
        epilog="To stop it: Ctrl-C. The commands for the backups: ./bot backups --help",
    ).parse_args()
    try:
        given = read_environment()
        settings = read_settings(given)
        check_address(settings.host, settings.port, given.place("HOST"))
    except AppError as error:
        sys.stderr.write(explain(error) + "\n")
        return 2 if isinstance(error, SettingsError) else 1
    _configure_logging(settings, PLATFORMS)
    address = f"http://{settings.host}:{settings.port}"
    uvicorn.run(
        create_app(settings, address=address),
        host=settings.host,
        port=settings.port,
        log_config=None if settings.log_format == "json" else LOGGING_CONFIG,
        limit_concurrency=MOST_CONNECTIONS,
        http=RequestHeadLimit,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
