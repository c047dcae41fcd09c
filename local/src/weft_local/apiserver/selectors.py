"""Label and field selectors: parsed once, matched often."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from weft_local.apiserver.errors import bad_request

_SET: Final = re.compile(r"^\s*([^\s!=,()]+)\s+(in|notin)\s+\(([^)]*)\)\s*$")
_EQUALITY: Final = re.compile(r"^\s*([^\s!=,()]+)\s*(==|=|!=)\s*([^\s,()]*)\s*$")
_EXISTS: Final = re.compile(r"^\s*(!?)\s*([^\s!=,()]+)\s*$")


@dataclass(frozen=True, slots=True)
class Requirement:
    """One term. operator: In, NotIn, Exists or DoesNotExist."""

    key: str
    operator: str
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """NotIn and != hold for a missing key, as in Kubernetes."""
        if self.operator == "Exists":
            return self.key in labels
        if self.operator == "DoesNotExist":
            return self.key not in labels
        if self.operator == "In":
            return labels.get(self.key) in self.values
        return self.key not in labels or labels[self.key] not in self.values


Selector = tuple[Requirement, ...]


def parse_label_selector(text: str) -> Selector:
    """The query-string form: a=b, a!=b, a in (b,c), a notin (b), a, !a. Raises ApiError 400."""
    requirements = []
    for term in re.findall(r"[^,(]+(?:\([^)]*\))?", text):
        if not term.strip():
            continue
        if found := _SET.match(term):
            values = frozenset(value.strip() for value in found[3].split(","))
            requirements.append(Requirement(found[1], "In" if found[2] == "in" else "NotIn", values))
        elif found := _EQUALITY.match(term):
            requirements.append(Requirement(found[1], "NotIn" if found[2] == "!=" else "In", frozenset({found[3]})))
        elif found := _EXISTS.match(term):
            requirements.append(Requirement(found[2], "DoesNotExist" if found[1] else "Exists"))
        else:
            raise bad_request(f"unable to parse label selector {text!r} at {term!r}")
    return tuple(requirements)


def selector_from_object(selector: Mapping[str, Any] | None) -> Selector:
    """The matchLabels/matchExpressions form of objects. None and empty select everything."""
    if not selector:
        return ()
    requirements = [
        Requirement(key, "In", frozenset({value})) for key, value in (selector.get("matchLabels") or {}).items()
    ]
    for expression in selector.get("matchExpressions") or []:
        values = frozenset(expression.get("values") or ())
        requirements.append(Requirement(expression["key"], expression["operator"], values))
    return tuple(requirements)


def matches_labels(selector: Selector, labels: Mapping[str, str] | None) -> bool:
    return all(requirement.matches(labels or {}) for requirement in selector)


def parse_field_selector(text: str) -> Callable[[Mapping[str, Any]], bool]:
    """a.b=c, a.b!=c, comma separated; a missing field counts as empty. Raises ApiError 400."""
    terms: list[tuple[tuple[str, ...], str, bool]] = []
    for term in filter(None, (part.strip() for part in text.split(","))):
        found = _EQUALITY.match(term)
        if not found:
            raise bad_request(f"unable to parse field selector {text!r} at {term!r}")
        terms.append((tuple(found[1].split(".")), found[3], found[2] != "!="))

    def matches(obj: Mapping[str, Any]) -> bool:
        for path, wanted, equal in terms:
            value: Any = obj
            for part in path:
                value = value.get(part) if isinstance(value, Mapping) else None
            if (("" if value is None else str(value)) == wanted) is not equal:
                return False
        return True

    return matches
