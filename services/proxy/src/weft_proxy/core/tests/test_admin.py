import json

import pytest
from weft_proxy.core.admin import (
    REDACTED,
    Answer,
    ListDecisions,
    Request,
    SetLogFilter,
    ShutDown,
    View,
    WriteMetrics,
    answer,
    redact,
)

ENVIRON = {"A": "1", "DB_PASSWORD": "x", "API_TOKEN": "x", "LINKERD2_PROXY_IDENTITY_TOKEN_FILE": "/t"}


def ask(method: str, path: str, query: str = "", body: bytes = b"", *, loopback: bool = True, **headers: str) -> Answer:
    request = Request(method, path, query, loopback, {k.replace("_", "-"): v for k, v in headers.items()}, body)
    view = View(ready=False, stopping=False, shutdown_enabled=True, log_filter="warn", environ=ENVIRON)
    return answer(request, view)


def with_view(
    path: str, method: str = "GET", *, ready: bool = True, stopping: bool = False, enabled: bool = False
) -> Answer:
    view = View(ready, stopping, enabled, "warn", {})
    return answer(Request(method, path, "", True, {}, b""), view)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_live_answers_any_method(method: str) -> None:
    assert (ask(method, "/live").status, ask(method, "/live").body) == (200, b"live\n")


def test_ready_follows_the_view() -> None:
    assert (with_view("/ready").status, with_view("/ready").body) == (200, b"ready\n")
    assert (with_view("/ready", ready=False).status, with_view("/ready", ready=False).body) == (503, b"not ready\n")


def test_metrics_are_compressed_when_accepted() -> None:
    assert ask("GET", "/metrics", accept_encoding="br, gzip;q=1").effect == WriteMetrics(gzip=True)
    assert ask("GET", "/metrics").effect == WriteMetrics(gzip=False)


def test_decisions_are_for_loopback_and_may_be_narrowed() -> None:
    assert ask("GET", "/decisions", loopback=False).status == 403
    assert ask("POST", "/decisions").status == 405
    assert ask("GET", "/decisions").effect == ListDecisions(failures_only=False, limit=0, id="")
    assert ask("GET", "/decisions", "failures&limit=5&id=3:7").effect == ListDecisions(True, 5, "3:7")
    assert b"known: failures" in ask("GET", "/decisions", "failed").body
    assert ask("GET", "/decisions", "limit=many").status == 400


def test_unknown_path_is_not_found() -> None:
    assert ask("GET", "/debug").status == 404


@pytest.mark.parametrize("path", ["/env.json", "/proxy-log-level", "/shutdown"])
def test_loopback_paths_refuse_other_clients(path: str) -> None:
    assert ask("GET", path, loopback=False).status == 403


@pytest.mark.parametrize(
    ("path", "method", "allow"),
    [("/env.json", "POST", "GET"), ("/proxy-log-level", "DELETE", "GET, PUT"), ("/shutdown", "GET", "POST")],
)
def test_wrong_method_names_the_right_ones(path: str, method: str, allow: str) -> None:
    refused = ask(method, path)
    assert (refused.status, refused.headers["allow"]) == (405, allow)


def test_log_filter_is_shown_and_replaced() -> None:
    assert ask("GET", "/proxy-log-level").body == b"warn\n"
    accepted = ask("PUT", "/proxy-log-level", body=b"linkerd=debug\n")
    assert accepted.status == 204
    assert isinstance(accepted.effect, SetLogFilter)
    assert accepted.effect.filter.text == "linkerd=debug"


@pytest.mark.parametrize("body", [b"x=loud", b"\xff\xfe"])
def test_unreadable_log_filter_changes_nothing(body: bytes) -> None:
    refused = ask("PUT", "/proxy-log-level", body=body)
    assert (refused.status, refused.effect) == (400, None)


def test_shutdown_needs_to_be_enabled_and_happens_once() -> None:
    assert with_view("/shutdown", "POST").status == 404
    assert with_view("/shutdown", "POST", enabled=True).effect == ShutDown()
    assert with_view("/shutdown", "POST", enabled=True, stopping=True).status == 500


def test_environment_hides_secrets() -> None:
    shown = json.loads(ask("GET", "/env.json").body)
    assert shown == {
        "A": "1",
        "DB_PASSWORD": REDACTED,
        "API_TOKEN": REDACTED,
        "LINKERD2_PROXY_IDENTITY_TOKEN_FILE": "/t",
    }
    assert redact("URL", "redis://u:p@host/0") == f"redis://{REDACTED}@host/0"


def test_environment_picks_variables_and_absent_ones_are_null() -> None:
    assert json.loads(ask("GET", "/env.json", "A&B").body) == {"A": "1", "B": None}
    assert ask("GET", "/env.json", "A=1").status == 400
    assert ask("GET", "/env.json", accept="text/html").status == 406
    assert ask("GET", "/env.json", accept="text/html, application/json;q=0.9").status == 200
