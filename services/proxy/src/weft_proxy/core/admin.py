"""The admin port's answers (observability.md 2), as a function from request and view to answer and effect.

Owns paths, methods, access rules and bodies. Policy for the port was already applied by the engine. Unlike Linkerd,
/env.json answers loopback clients only and hides what looks like a secret.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote_plus

from weft_proxy.core.log_filter import LogFilter

TEXT = "text/plain"
JSON = "application/json"
REDACTED = "<redacted>"
MAX_DECISIONS = 10_000
_SECRET_NAME = re.compile(r"SECRET|PASSW(OR)?D|CREDENTIAL|PRIVATE|(^|_)(TOKEN|KEY|AUTH)$", re.IGNORECASE)
_USERINFO = re.compile(r"(?<=://)[^/@\s]+@")


@dataclass(frozen=True, slots=True)
class Request:
    """Header names are lower case; query is without the question mark."""

    method: str
    path: str
    query: str
    is_loopback: bool
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class View:
    """What answers are made of."""

    ready: bool
    stopping: bool
    shutdown_enabled: bool
    log_filter: str
    environ: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SetLogFilter:
    filter: LogFilter


@dataclass(frozen=True, slots=True)
class ShutDown:
    pass


@dataclass(frozen=True, slots=True)
class WriteMetrics:
    """The body is the exposition text, which the shell fetches; gzip: as the client asked."""

    gzip: bool


@dataclass(frozen=True, slots=True)
class ListDecisions:
    """The body is what the engine keeps of requests, newest first. limit 0: all of it."""

    failures_only: bool
    limit: int
    id: str


Effect = SetLogFilter | ShutDown | WriteMetrics | ListDecisions | None


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes = b""
    content_type: str = TEXT
    headers: Mapping[str, str] = field(default_factory=dict)
    effect: Effect = None


def answer(request: Request, view: View) -> Answer:
    match request.path:
        case "/live":
            return Answer(200, b"live\n")
        case "/ready":
            return Answer(200, b"ready\n") if view.ready else Answer(503, b"not ready\n")
        case "/metrics":
            return Answer(200, effect=WriteMetrics(gzip="gzip" in request.headers.get("accept-encoding", "").lower()))
        case "/env.json" | "/proxy-log-level" | "/shutdown" | "/decisions" as path:
            return _loopback_only(path, request, view)
        case _:
            return Answer(404, b"not found\n")


def _loopback_only(path: str, request: Request, view: View) -> Answer:
    if path == "/shutdown" and not view.shutdown_enabled:
        return Answer(404, b"shutdown is off; set LINKERD2_PROXY_SHUTDOWN_ENDPOINT_ENABLED=true\n")
    if not request.is_loopback:
        return Answer(403, b"only for clients on the loopback interface\n")
    match path:
        case "/env.json":
            return _environment(request, view)
        case "/shutdown":
            return _shutdown(request, view)
        case "/decisions":
            return _decisions(request)
        case _:
            return _log_level(request, view)


def _decisions(request: Request) -> Answer:
    if request.method != "GET":
        return _wrong_method("GET")
    asked = parse_qs(request.query, keep_blank_values=True)
    if unknown := sorted(asked.keys() - {"failures", "limit", "id"}):
        return Answer(400, f"unknown: {', '.join(unknown)}; known: failures, limit=N, id=C:R\n".encode())
    limit = asked.get("limit", ["0"])[-1]
    if not limit.isdecimal() or int(limit) > MAX_DECISIONS:
        return Answer(400, f"limit must be a number up to {MAX_DECISIONS}\n".encode())
    effect = ListDecisions("failures" in asked, int(limit), asked.get("id", [""])[-1])
    return Answer(200, content_type=JSON, effect=effect)


def _shutdown(request: Request, view: View) -> Answer:
    if request.method != "POST":
        return _wrong_method("POST")
    if view.stopping:
        return Answer(500, b"already stopping\n")
    return Answer(200, b"shutdown\n", effect=ShutDown())


def _log_level(request: Request, view: View) -> Answer:
    if request.method == "GET":
        return Answer(200, view.log_filter.encode() + b"\n")
    if request.method != "PUT":
        return _wrong_method("GET, PUT")
    try:
        log_filter = LogFilter.parse(request.body.decode().strip())
    except ValueError as error:
        return Answer(400, f"not a log filter: {error}\n".encode())
    return Answer(204, effect=SetLogFilter(log_filter))


def _environment(request: Request, view: View) -> Answer:
    if request.method != "GET":
        return _wrong_method("GET")
    if "=" in request.query:
        return Answer(400, b"name variables as ?A&B, without values\n")
    if not _accepts_json(request.headers.get("accept", "*/*")):
        return Answer(406, b"the answer is application/json\n")
    names = [unquote_plus(name) for name in request.query.split("&") if name] or list(view.environ)
    shown = {name: redact(name, view.environ.get(name)) for name in names}
    return Answer(200, json.dumps(shown).encode(), JSON)


def redact(name: str, value: str | None) -> str | None:
    """Hide values whose name says secret, and user info inside URLs."""
    if not value:
        return value
    return REDACTED if _SECRET_NAME.search(name) else _USERINFO.sub(REDACTED + "@", value)


def _accepts_json(accept: str) -> bool:
    kinds = {part.partition(";")[0].strip().lower() for part in accept.split(",")}
    return bool(kinds & {"*/*", "application/*", JSON})


def _wrong_method(allow: str) -> Answer:
    return Answer(405, b"method not allowed\n", headers={"allow": allow})
