"""What a user sees of a service's command line."""

from __future__ import annotations

import pytest
from weft_common.command_line import exit_on_bad_configuration, service_parser
from weft_common.settings import Mistake, Setting, SettingsError, port


def test_help_tells_the_environment_and_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    parser = service_parser("weft-x", "Does x.", [Setting("WEFT_PORT", port, 80, "Where.")], "WEFT_PORT=81 weft-x")
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    for part in ("Does x.", "WEFT_PORT  (default 80)", "example:\n  WEFT_PORT=81 weft-x"):
        assert part in shown


def test_every_mistake_is_a_line_and_the_exit_code_is_64(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, exit_on_bad_configuration():
        raise SettingsError([Mistake("A", "1", "expected a"), Mistake("B", "2", "expected b")])
    assert ended.value.code == 64
    assert capsys.readouterr().err == "configuration: A='1': expected a\nconfiguration: B='2': expected b\n"
