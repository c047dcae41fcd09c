"""Results of `weft check` and how they read (observability.md 5.2)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final


class Result(Enum):
    """A warning is shown and does not fail the run."""

    SUCCESS = "success"
    WARNING = "warning"
    ERROR = "error"


SIGNS: Final = {Result.SUCCESS: "√", Result.WARNING: "‼", Result.ERROR: "×"}


@dataclass(frozen=True, slots=True)
class Check:
    """One line. error: what is wrong. hint: what to do next. Both empty on success.

    fatal: what follows would only repeat this failure. retry: it may pass by itself, as when pods are still starting.
    """

    description: str
    result: Result = Result.SUCCESS
    error: str = ""
    hint: str = ""
    fatal: bool = False
    retry: bool = False


@dataclass(frozen=True, slots=True)
class Category:
    """Checks under one heading, in order."""

    name: str
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """All categories that were run, in order."""

    categories: tuple[Category, ...]

    @property
    def success(self) -> bool:
        """Whether no check failed; warnings do not count."""
        return all(check.result is not Result.ERROR for check in self.checks)

    @property
    def checks(self) -> list[Check]:
        """Those of all categories."""
        return [check for category in self.categories for check in category.checks]

    @property
    def waiting_for(self) -> list[Check]:
        """What failed and may pass by itself; empty when nothing is to be gained by waiting."""
        failed = [check for check in self.checks if check.result is Result.ERROR]
        return failed if all(check.retry for check in failed) else []

    def until_fatal(self) -> Report:
        """Without the checks behind the first fatal failure."""
        kept: list[Category] = []
        for category in self.categories:
            checks: list[Check] = []
            for check in category.checks:
                checks.append(check)
                if check.fatal and check.result is Result.ERROR:
                    return Report((*kept, Category(category.name, tuple(checks))))
            kept.append(Category(category.name, tuple(checks)))
        return Report(tuple(kept))

    def text(self, *, short: bool = False) -> str:
        """For people. short: only what did not pass."""
        blocks = [self._block(category, short) for category in self.categories]
        verdict = f"Status check results are {SIGNS[Result.SUCCESS if self.success else Result.ERROR]}\n"
        return "\n".join([block for block in blocks if block] + [verdict])

    @staticmethod
    def _block(category: Category, short: bool) -> str:
        shown = [check for check in category.checks if not short or check.result is not Result.SUCCESS]
        if not shown:
            return ""
        lines = [category.name, "-" * len(category.name)]
        for check in shown:
            lines.append(f"{SIGNS[check.result]} {check.description}")
            lines += [f"    {line}" for line in (check.error, check.hint) if line]
        return "\n".join(lines) + "\n"

    def json(self) -> str:
        """For machines; key names are Linkerd's."""
        categories = [
            {"categoryName": category.name, "checks": [_object(check) for check in category.checks]}
            for category in self.categories
        ]
        return json.dumps({"success": self.success, "categories": categories}, indent=2, ensure_ascii=False)


def _object(check: Check) -> dict[str, str]:
    return {
        "description": check.description,
        "hint": check.hint,
        "error": check.error,
        "result": check.result.value,
    }


def verdict(
    description: str,
    problems: Sequence[str],
    hint: str = "",
    *,
    warning: bool = False,
    fatal: bool = False,
    retry: bool = False,
) -> Check:
    """A check that passes when nothing is wrong."""
    if not problems:
        return Check(description)
    result = Result.WARNING if warning else Result.ERROR
    return Check(description, result, "; ".join(problems), hint, fatal and not warning, retry and not warning)
