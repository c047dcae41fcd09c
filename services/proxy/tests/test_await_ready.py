"""weft-await against a real admin listener that becomes ready late, or never."""

import http.server
import threading
from collections.abc import Iterator

import pytest
from weft_proxy.await_ready import duration_s, main


class Admin(http.server.ThreadingHTTPServer):
    """Answers 503 until it was asked `ready_after` times."""

    def __init__(self, ready_after: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.left = ready_after


class Handler(http.server.BaseHTTPRequestHandler):
    server: Admin

    def do_GET(self) -> None:
        self.server.left -= 1
        self.send_response(200 if self.path == "/ready" and self.server.left < 0 else 503)
        self.end_headers()

    def log_message(self, *_args: object) -> None:
        return


@pytest.fixture
def admin() -> Iterator[Admin]:
    with Admin(ready_after=2) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_waits_until_the_proxy_is_ready(admin: Admin) -> None:
    assert main([f"--port={admin.server_port}", "--timeout=20s"]) == 0
    assert admin.left < 0


def test_time_that_is_up_is_an_error_with_a_hint(admin: Admin, capsys: pytest.CaptureFixture[str]) -> None:
    admin.left = 1_000_000
    assert main([f"--port={admin.server_port}", "--timeout=50ms"]) == 1
    assert str(admin.server_port) in capsys.readouterr().err


@pytest.mark.parametrize(("text", "seconds"), [("2m", 120.0), ("1m30s", 90.0), ("250ms", 0.25), ("1.5s", 1.5)])
def test_durations_are_spelt_as_in_go(text: str, seconds: float) -> None:
    assert duration_s(text) == pytest.approx(seconds)


def test_unreadable_duration_is_refused() -> None:
    with pytest.raises(SystemExit):
        main(["--timeout=soon"])
