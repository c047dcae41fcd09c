"""Which log records pass: the filter syntax of LINKERD2_PROXY_LOG.

A filter is a comma-separated list of `level`, `target` or `target=level`; the longest matching target wins. Span and
field conditions (`target[{headers}]=off`) are accepted, because charts write them, and concern only records that carry
such spans: ours carry none, so they change nothing. A `weft` target also answers to directives for `linkerd`.
"""

import re
from dataclasses import dataclass
from enum import IntEnum

DEFAULT_FILTER = "warn,linkerd=info,hickory=error"


class Level(IntEnum):
    """Ordered by how much passes; the numbers have no other meaning."""

    OFF = 0
    ERROR = 1
    WARN = 2
    INFO = 3
    DEBUG = 4
    TRACE = 5


_DIRECTIVE = re.compile(r"(?P<target>[\w:.-]*)(?P<span>\[[^\]]*\])?(=(?P<level>\w+))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class LogFilter:
    text: str
    directives: tuple[tuple[str, Level], ...]
    """(target prefix, level), longest prefix first; the empty prefix is the level for everything else."""

    @classmethod
    def parse(cls, text: str) -> "LogFilter":
        """Raises ValueError naming the part that does not parse. An empty text passes errors only."""
        found: dict[str, Level] = {}
        for part in _split(text):
            match = _DIRECTIVE.fullmatch(part)
            if match is None:
                raise ValueError(f"cannot read {part!r}")
            target, level = match["target"], match["level"]
            if level is None and not match["span"] and target.upper() in Level.__members__:
                target, level = "", target
            parsed = Level.TRACE if level is None else Level.__members__.get(level.upper())
            if parsed is None:
                raise ValueError(f"unknown level in {part!r}")
            if not match["span"]:
                found[target] = parsed
        found.setdefault("", Level.OFF if found else Level.ERROR)
        return cls(text, tuple(sorted(found.items(), key=lambda item: -len(item[0]))))

    def level_for(self, target: str) -> Level:
        names = (target, "linkerd" + target.removeprefix("weft")) if target.startswith("weft") else (target,)
        return next(level for prefix, level in self.directives if any(name.startswith(prefix) for name in names))

    def passes(self, target: str, level: Level) -> bool:
        return level is not Level.OFF and level <= self.level_for(target)


def _split(text: str) -> list[str]:
    """Split at commas outside brackets and braces."""
    parts, depth, start = [], 0, 0
    for index, char in enumerate(text + ","):
        if char in "[{":
            depth += 1
        elif char in "]}":
            depth -= 1
        elif char == "," and depth == 0:
            parts.append(text[start:index].strip())
            start = index + 1
    if depth:
        raise ValueError("unbalanced brackets")
    return [part for part in parts if part]
