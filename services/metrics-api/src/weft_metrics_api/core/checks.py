"""Whether this service can answer well, from facts the shells report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from weft_metrics_api.core.pods import PodKey

STALE_AFTER_ROUNDS: Final = 3
SHOWN_FAILURES: Final = 3


class Status(Enum):
    """Outcome of a check. A warning means that answers are incomplete, a failure that there are none."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Check:
    """message: what is wrong and what to do; empty when OK."""

    subsystem: str
    description: str
    status: Status
    message: str = ""


def check_cluster(missing: Sequence[str], stale: Sequence[str]) -> Check:
    """Whether pods and their owners are known and current."""
    description = "pods and their owners are followed"
    if missing:
        return Check("kubernetes", description, Status.FAILED, f"{'; '.join(missing)}: is the API server reachable?")
    if stale:
        return Check(
            "kubernetes", description, Status.WARNING, f"{', '.join(stale)} may be old: the API server does not answer"
        )
    return Check("kubernetes", description, Status.OK)


def check_scrapes(
    now: float, newest_round: float | None, interval_s: float, targets: int, failing: Mapping[PodKey, str]
) -> Check:
    """Whether proxies are scraped, on time and all of them. now, newest_round: seconds of one clock."""
    description = "proxies are scraped"
    if newest_round is None:
        return Check("scraper", description, Status.WARNING, "no round is complete yet; ask again in a moment")
    if now - newest_round > STALE_AFTER_ROUNDS * interval_s:
        late_s = now - newest_round
        return Check("scraper", description, Status.FAILED, f"the last round was {late_s:.0f} s ago; see the logs")
    if not failing:
        return Check("scraper", description, Status.OK)
    shown = [f"{key.namespace}/{key.name} ({reason})" for key, reason in sorted(failing.items())[:SHOWN_FAILURES]]
    more = f" and {len(failing) - SHOWN_FAILURES} more" if len(failing) > SHOWN_FAILURES else ""
    status = Status.FAILED if len(failing) == targets else Status.WARNING
    message = f"{len(failing)} of {targets} proxies do not answer: {', '.join(shown)}{more}"
    return Check("scraper", description, status, message)
