"""`Scrape`: what `/metrics` said, read by the parser of the Prometheus client."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from backups.http.metrics import BackupCollector
from backups.service import BackupService

# Name in the exposition -> type and labels, as people's dashboards and rules rely on them.
METRICS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "backup_last_success_timestamp_seconds": ("gauge", ()),
    "backup_last_proof_timestamp_seconds": ("gauge", ()),
    "backup_next_run_timestamp_seconds": ("gauge", ()),
    "backup_restore_points": ("gauge", ()),
    "backup_runs_total": ("counter", ("operation", "trigger", "status")),
    "backup_stage_seconds": ("histogram", ("stage",)),
    "backup_bytes": ("gauge", ("source", "kind")),
    "backup_rows": ("gauge", ("source", "table")),
    "backup_healthy": ("gauge", ()),
    "backup_light": ("gauge", ()),
    "backup_protected_by": ("gauge", ("fact",)),
    "backup_newest_point_timestamp_seconds": ("gauge", ()),
    "backup_follow_seconds": ("histogram", ()),
    "backup_problem": ("gauge", ("code",)),
    "backup_drill_rto_seconds": ("gauge", ()),
    "backup_notifications_total": ("counter", ("result",)),
    "backup_second_complete_timestamp_seconds": ("gauge", ()),
    "backup_second_documents_waiting": ("gauge", ()),
    "backup_second_waiting": ("gauge", ()),
    "backup_second_restore_points": ("gauge", ()),
    "bot_inbox_waiting": ("gauge", ()),
    "bot_inbox_oldest_seconds": ("gauge", ()),
    "bot_inbox_set_aside": ("gauge", ()),
}
# Without a sample where there is no second place.
OF_SECOND = frozenset(name for name in METRICS if name.startswith("backup_second_"))
# What a histogram is made of.
_HISTOGRAMS = {name for name, (kind, _) in METRICS.items() if kind == "histogram"}
SERIES = frozenset(METRICS) - _HISTOGRAMS | {
    f"{name}_{end}" for name in _HISTOGRAMS for end in ("bucket", "sum", "count")
}


@dataclass(frozen=True)
class Scrape:
    """Families by name, with their type, and samples by name and labels."""

    types: Mapping[str, str]
    samples: Mapping[tuple[str, frozenset[tuple[str, str]]], float]

    def value(self, name: str, **labels: str) -> float | None:
        """One sample; None when it is not there."""
        return self.samples.get((name, frozenset(labels.items())))

    def labels(self, name: str) -> set[frozenset[str]]:
        """The sets of label names that a series has."""
        return {
            frozenset(label for label, _ in labels)
            for found, labels in self.samples
            if found == name
        }


def read_scrape(text: str) -> Scrape:
    """Parse an exposition; a counter is called as its samples are."""
    types, samples = {}, {}
    for family in text_string_to_metric_families(text):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        types[name] = family.type
        for sample in family.samples:
            samples[sample.name, frozenset(sample.labels.items())] = sample.value
    return Scrape(types, samples)


def scrape(service: BackupService) -> Scrape:
    """What the metrics of a service in this process say."""
    return read_scrape(generate_latest(BackupCollector(service)).decode())
