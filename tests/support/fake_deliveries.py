"""What came of requests to the bot: single deliveries, and a burst of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tests.fakes.delivery import Delivery


@dataclass(frozen=True)
class Burst:
    """Many deliveries at a rate; `ids` are those of the messages or webhooks, each once."""

    ids: list[str]
    deliveries: list[Delivery]

    @property
    def statuses(self) -> Counter[int]:
        """How often each status came; 0 is no answer."""
        return Counter(one.status for one in self.deliveries)

    @property
    def latencies(self) -> list[float]:
        """Seconds until each answer, shortest first."""
        return sorted(one.seconds for one in self.deliveries)


def deliveries(read: Sequence[dict[str, Any]]) -> list[Delivery]:
    """Deliveries as a stand-in reports them."""
    return [Delivery(**one) for one in read]


def milliseconds(at: datetime | None) -> int | None:
    """An instant as the platforms count it; it has to have a time zone."""
    if at is None:
        return None
    assert at.tzinfo is not None, f"{at} has no time zone"
    return round(at.timestamp() * 1000)
