"""`GET /metrics`: how the backups stand, for Prometheus, from this host's records.

Nothing is counted in the process: every worker reads the same records, and so answers the
same, also after a restart. The store is not asked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from backups.decisions.health import PROBLEM_CODES, Status
from backups.host.totals import RunKind
from backups.increments.follow_folder import FollowFolder
from backups.increments.seconds import BUCKETS, read_seconds
from backups.model import BackupSet, Light, OperationName, Trigger
from backups.service import BackupService
from backups.vocabulary.bot import InboxFacts
from backups.vocabulary.second import SecondFacts
from shared.errors import DatabaseError
from shared.web.admin_auth import ADMIN_STATUSES, admin_guard, guarded_by
from shared.web.problem_handlers import documented

_OPENMETRICS = "application/openmetrics-text"

# What starts by itself or is asked for. Each is there from the beginning, at 0: a counter that
# first appears at 1 is no increase to Prometheus, and its first failure would be overlooked.
_RUNS: tuple[tuple[OperationName, Trigger], ...] = (
    ("backup", "scheduled"),
    ("backup", "catch-up"),
    ("backup", "change"),
    ("backup", "manual"),
    ("verify", "manual"),
    ("drill", "scheduled"),
    ("drill", "manual"),
    ("prune", "scheduled"),
    ("prune", "manual"),
    ("restore", "manual"),
    ("delete", "manual"),
)
_LIGHTS: Mapping[Light, int] = {"green": 2, "amber": 1, "red": 0}
_OUTCOMES = ("succeeded", "failed", "interrupted")


def metrics_routes() -> APIRouter:
    """The route; it needs the admin token unless `METRICS_PUBLIC` is true."""
    router = APIRouter(tags=["metrics"], route_class=guarded_by(_guard()))

    @router.get(
        "/metrics",
        response_class=PlainTextResponse,
        responses={
            **documented(ADMIN_STATUSES),
            200: {"content": {_OPENMETRICS: {"schema": {"type": "string"}}}},
        },
        summary="The state of the backups, for Prometheus",
    )
    def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        service: BackupService = request.app.state.backups
        body = encode(BackupCollector(service))
        return Response(body, headers={"Content-Type": content_type})

    return router


def _guard() -> Callable[[Request], None]:
    admin = admin_guard(lambda request: request.app.state.settings.admin_token)

    def guard(request: Request) -> None:
        if not request.app.state.settings.metrics_public:
            admin(request)

    return guard


class BackupCollector(Collector):
    """All metrics of one service, as its records are now.

    While these cannot be read, there is no more than what status says then.
    """

    def __init__(self, service: BackupService) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        """One family after the other; those without a value yet have no samples."""
        status = self._service.status()
        yield from _times(status)
        yield from _health(status)
        yield from _newest(status.newest_restore_point)
        yield from _second(status.second)
        yield from _inbox(status.bot.inbox)
        try:
            counted = [self._runs(), self._stages(), self._follow(), self._notifications()]
        except DatabaseError:
            if status.health.healthy:  # else status says that the records cannot be read
                raise
            return
        yield from counted

    def _runs(self) -> Metric:
        family = CounterMetricFamily(
            "backup_runs",
            "Runs that have ended on this host",
            labels=("operation", "trigger", "status"),
        )
        known = {RunKind(*kind, outcome): 0 for kind in _RUNS for outcome in _OUTCOMES}
        for kind, total in {**known, **self._service.run_log.totals()}.items():
            family.add_metric((kind.operation, kind.trigger, kind.status), total)
        return family

    def _stages(self) -> Metric:
        family = HistogramMetricFamily(
            "backup_stage_seconds",
            "How long runs spent in a stage, whatever its outcome",
            labels=("stage",),
        )
        for stage, spent in self._service.run_log.stages().items():
            buckets = [(_bound(bound), float(total)) for bound, total in spent.up_to]
            family.add_metric((stage,), buckets, spent.seconds)
        return family

    def _follow(self) -> Metric:
        family = HistogramMetricFamily(
            "backup_follow_seconds",
            "How long changes took from being noticed to being in a proven increment",
            labels=(),
        )
        found = read_seconds(FollowFolder(self._service.directory))
        edges = (*map(_bound, BUCKETS), "+Inf")
        counts = map(float, (*found.buckets, found.count))
        family.add_metric((), list(zip(edges, counts, strict=True)), found.total)
        return family

    def _notifications(self) -> Metric:
        family = CounterMetricFamily(
            "backup_notifications",
            "Notifications that were sent, or could not be",
            labels=("result",),
        )
        for result, total in {
            "sent": 0,
            "failed": 0,
            **self._service.facts.notifications(),
        }.items():
            family.add_metric((result,), total)
        return family


def _times(status: Status) -> Iterator[Metric]:
    success, proven = status.last_success, status.newest_restore_point
    yield _gauge(
        "backup_last_success_timestamp_seconds",
        "When the newest successful backup run of this host ended; 0 for never",
        _seconds(success.finished_at if success else None),
    )
    yield _gauge(
        "backup_last_proof_timestamp_seconds",
        "When the newest restore point was last proven; 0 for never",
        _seconds(proven.proven_at if proven else None),
    )
    yield _gauge(
        "backup_newest_point_timestamp_seconds",
        "The instant of the newest proven, complete, unsuspected point; 0 for none",
        _seconds(status.newest_point_at),
    )
    yield _gauge(
        "backup_next_run_timestamp_seconds",
        "When the schedule is next due",
        _seconds(status.next_run_at),
    )


def _health(status: Status) -> Iterator[Metric]:
    yield _gauge(
        "backup_healthy", "1 if status finds no problem, 0 if it finds one", status.health.healthy
    )
    yield _gauge(
        "backup_light",
        "2 green: protected; 1 amber: backed up, with a weakness; 0 red: a problem",
        _LIGHTS[status.health.light],
    )
    facts = GaugeMetricFamily(
        "backup_protected_by",
        "Whether a fact that green rests on is known to hold",
        labels=("fact",),
    )
    for fact in status.health.facts:
        facts.add_metric((fact.name,), fact.holds is True)
    yield facts
    problems = GaugeMetricFamily(
        "backup_problem", "Whether status has this problem", labels=("code",)
    )
    active = {found.code for found in status.health.problems}
    for code in sorted(active.union(PROBLEM_CODES)):
        problems.add_metric((code,), code in active)
    yield problems
    drill = status.last_drill
    yield _gauge(
        "backup_drill_rto_seconds",
        "How long the newest drill took from the first byte to usable data; absent if it failed",
        drill.seconds if drill and not drill.failure else None,
    )
    yield _gauge(
        "backup_restore_points", "How many restore points there are", status.restore_points
    )


def _newest(newest: BackupSet | None) -> Iterator[Metric]:
    """What the newest restore point holds; of a legacy one only the stored bytes are known."""
    sizes = GaugeMetricFamily(
        "backup_bytes",
        "Bytes of the newest restore point: as stored, and of the snapshot inside",
        labels=("source", "kind"),
    )
    rows = GaugeMetricFamily(
        "backup_rows", "Rows of the newest restore point", labels=("source", "table")
    )
    for stored in newest.objects if newest else ():
        sizes.add_metric((stored.source, "stored"), stored.bytes)
        if stored.described:
            sizes.add_metric((stored.source, "snapshot"), stored.snapshot_bytes)
        for table, count in stored.rows.items():
            rows.add_metric((stored.source, table), count)
    yield sizes
    yield rows


def _second(second: SecondFacts | None) -> Iterator[Metric]:
    """Absent where there is no second place, or nothing was copied yet."""
    state = second.state if second else None
    yield _gauge(
        "backup_second_complete_timestamp_seconds",
        "When the second place last had all that the first has; 0 for never",
        _seconds(state.complete_at) if state else None,
    )
    yield _gauge(
        "backup_second_waiting",
        "How many objects the second place lacked after the last copying",
        state.waiting if state else None,
    )
    yield _gauge(
        "backup_second_restore_points",
        "How many restore points there are in the second place",
        state.points if state else None,
    )
    documents = second.documents if second else None
    yield _gauge(
        "backup_second_documents_waiting",
        "How many documents of users/ the second place lacked after the last copying",
        documents.waiting if documents else None,
    )


def _inbox(inbox: InboxFacts | None) -> Iterator[Metric]:
    """Absent while the inbox cannot be read."""
    yield _gauge(
        "bot_inbox_waiting",
        "How many updates of the platforms wait to be handled",
        inbox.waiting if inbox else None,
    )
    yield _gauge(
        "bot_inbox_oldest_seconds",
        "For how long the oldest of them has waited; 0 for none",
        inbox.oldest_seconds if inbox else None,
    )
    yield _gauge(
        "bot_inbox_set_aside",
        "How many updates failed for a day, and wait for a person",
        inbox.set_aside if inbox else None,
    )


def _gauge(name: str, help_: str, value: float | None) -> Metric:
    return GaugeMetricFamily(name, help_, value=value)


def _bound(seconds: float) -> str:
    return "+Inf" if math.isinf(seconds) else repr(float(seconds))


def _seconds(instant: datetime | None) -> float:
    # To the millisecond, which is what the records have.
    return math.floor(instant.timestamp() * 1000) / 1000 if instant else 0.0
