"""The root command: help, version, completion, unknown and absent commands, start-up cost."""

from __future__ import annotations

import subprocess
import sys

import pytest

from weft_cli.__main__ import COMMANDS, main
from weft_cli.errors import CliError
from weft_cli.lazy import LazyCommand, load


def test_help_names_every_command_and_imports_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"  {name} " in out for name in COMMANDS)


def test_help_stays_cheap() -> None:
    """What would cost a fifth of a second or more must not be imported for help."""
    code = (
        "import sys; from weft_cli.__main__ import main; main(['--help']); "
        "print(sorted({'aiohttp', 'grpc', 'rich', 'yaml', 'cryptography', 'weft_local'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_version_option_prints_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == "weft 0.1.0\n"


def test_client_version_needs_no_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version", "--client", "-o", "json"]) == 0
    assert capsys.readouterr().out == '{"client": "0.1.0"}\n'


def test_unknown_command_brings_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stats"]) == 2
    assert "'stat'" in capsys.readouterr().err


def test_command_whose_distribution_is_absent_says_which() -> None:
    with pytest.raises(CliError, match=r"weft_absent\.cli is not installed") as caught:
        load("absent", LazyCommand("weft_absent.cli:app", ""))
    assert caught.value.hint == "install the distribution weft-absent"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_asks_this_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    assert "_WEFT_COMPLETE" in capsys.readouterr().out


def test_completion_offers_commands() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "weft_cli"],
        env={"_WEFT_COMPLETE": "complete_bash", "COMP_WORDS": "weft st", "COMP_CWORD": "1", "PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "stat" in done.stdout
