"""Log records on stdout, in the two forms of observability.md 7.1, behind the LINKERD2_PROXY_LOG filter.

Plain: `[  uptime] LEVEL ThreadId(01) target: message key=value`. JSON: one object per line. The filter may be replaced
while running. The engine logs to us through events, so one filter and one sink serve both.
"""

import json
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TextIO

from weft_proxy.core.log_filter import Level, LogFilter

Field = str | int | float | bool | None


class LogSink:
    """Writes what the filter lets pass. One per process, handed to whoever logs."""

    def __init__(self, log_filter: LogFilter, *, as_json: bool, out: TextIO = sys.stdout) -> None:
        self.filter = log_filter
        self._json = as_json
        self._out = out
        self._started = time.monotonic()

    def write(self, target: str, level: Level, message: str, fields: Mapping[str, Field]) -> None:
        if not self.filter.passes(target, level):
            return
        line = (self._json_line if self._json else self._plain_line)(target, level, message, fields)
        self._out.write(line + "\n")
        self._out.flush()

    def logger(self, target: str) -> "Logger":
        return Logger(self, target)

    def _plain_line(self, target: str, level: Level, message: str, fields: Mapping[str, Field]) -> str:
        uptime = time.monotonic() - self._started
        pairs = "".join(f" {key}={value}" for key, value in fields.items())
        return f"[{uptime:>12.6f}s] {level.name:>5} ThreadId(01) {target}: {message}{pairs}"

    def _json_line(self, target: str, level: Level, message: str, fields: Mapping[str, Field]) -> str:
        stamp = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        return json.dumps(
            {
                "timestamp": stamp,
                "level": level.name,
                "fields": {"message": message, **fields},
                "target": target,
                "spans": [],
                "threadId": "ThreadId(1)",
            }
        )


class Logger:
    """A sink with a target, such as `weft_proxy::identity`."""

    __slots__ = ("_sink", "_target")

    def __init__(self, sink: LogSink, target: str) -> None:
        self._sink = sink
        self._target = target

    def debug(self, message: str, **fields: Field) -> None:
        self._sink.write(self._target, Level.DEBUG, message, fields)

    def info(self, message: str, **fields: Field) -> None:
        self._sink.write(self._target, Level.INFO, message, fields)

    def warning(self, message: str, **fields: Field) -> None:
        self._sink.write(self._target, Level.WARN, message, fields)

    def error(self, message: str, **fields: Field) -> None:
        self._sink.write(self._target, Level.ERROR, message, fields)
