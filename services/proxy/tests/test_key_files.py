"""The workload's key on disk, and the launcher that writes it for proxies that make none."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_der_private_key
from weft_proxy.core.log_filter import LogFilter
from weft_proxy.engine import NativeCryptography
from weft_proxy.key_files import KeyAndCsr, load_or_create_key
from weft_proxy.logs import Logger, LogSink

NAME = "web.shop.serviceaccount.identity.linkerd.cluster.local"
LAUNCHER = str(Path(sys.executable).parent / "weft-proxy-identity")


@pytest.fixture
def log() -> Logger:
    return LogSink(LogFilter.parse("info"), as_json=False, out=io.StringIO()).logger("weft_proxy")


def test_key_is_made_once_and_kept_private(tmp_path: Path, log: Logger) -> None:
    folder = tmp_path / "end-entity"
    made = load_or_create_key(folder, NAME, NativeCryptography(), log)
    key_file = folder / "key.p8"
    assert key_file.stat().st_mode & 0o777 == 0o600
    key_file.write_bytes(b"kept")
    assert load_or_create_key(folder, NAME, NativeCryptography(), log) == KeyAndCsr(b"kept", made.csr)


def test_key_lives_in_memory_where_nothing_can_be_written(tmp_path: Path, log: Logger) -> None:
    (tmp_path / "file").write_text("")
    assert load_or_create_key(tmp_path / "file" / "x", NAME, NativeCryptography(), log).key


def launch(folder: Path, *command: str, name: str = NAME) -> subprocess.CompletedProcess[str]:
    environ = {
        **os.environ,
        "LINKERD2_PROXY_IDENTITY_DIR": str(folder),
        "LINKERD2_PROXY_IDENTITY_LOCAL_NAME": name,
    }
    return subprocess.run([LAUNCHER, *command], env=environ, capture_output=True, text=True, timeout=30, check=False)


def test_launcher_leaves_a_key_and_its_request_and_becomes_the_command(tmp_path: Path) -> None:
    done = launch(tmp_path, "sh", "-c", "echo $$ ran; exit 7")
    assert (done.returncode, done.stderr) == (7, "")
    assert done.stdout.endswith("ran\n")
    key = load_der_private_key((tmp_path / "key.p8").read_bytes(), None)
    request = x509.load_der_x509_csr((tmp_path / "csr.der").read_bytes())
    assert request.public_key() == key.public_key()
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [NAME]


def test_launcher_keeps_the_key_of_an_earlier_start(tmp_path: Path) -> None:
    launch(tmp_path, "true")
    before = (tmp_path / "key.p8").read_bytes()
    launch(tmp_path, "true")
    assert (tmp_path / "key.p8").read_bytes() == before


@pytest.mark.parametrize(
    ("folder", "name", "command", "code", "said"),
    [
        ("end-entity", "", "true", 64, "LINKERD2_PROXY_IDENTITY_LOCAL_NAME"),
        ("end-entity", NAME, "no-such-proxy", 126, "no-such-proxy: No such file"),
        ("file/x", NAME, "true", 1, "no key in"),
    ],
)
def test_launcher_says_in_one_line_what_is_wrong(
    tmp_path: Path, folder: str, name: str, command: str, code: int, said: str
) -> None:
    (tmp_path / "file").write_text("")
    done = launch(tmp_path / folder, command, name=name)
    assert done.returncode == code
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
