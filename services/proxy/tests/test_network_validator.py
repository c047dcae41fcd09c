"""The validator on loopback: a redirect is imitated by connecting to the listening port itself."""

import asyncio
import socket

import pytest
from weft_proxy.network_validator import EXIT_NOT_REDIRECTED, is_redirected, main


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_connection_that_comes_back_passes(port: int) -> None:
    address = f"127.0.0.1:{port}"
    assert main(["--connect-addr", address, "--listen-addr", address, "--timeout", "5s"]) == 0


async def test_answer_of_somebody_else_fails_at_once(port: int) -> None:
    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x" * 64)
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as other:
        elsewhere = other.sockets[0].getsockname()
        async with asyncio.timeout(5):
            assert not await is_redirected(elsewhere, ("127.0.0.1", port), 60)


def test_connection_that_goes_nowhere_exits_95_with_advice(port: int, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as refusing:
        refusing.bind(("127.0.0.1", 0))
        connect = f"127.0.0.1:{refusing.getsockname()[1]}"
        arguments = ["--connect-addr", connect, "--listen-addr", f"127.0.0.1:{port}", "--timeout", "100ms"]
        assert main(arguments) == EXIT_NOT_REDIRECTED == 95
    assert "CNI plugin" in capsys.readouterr().err


@pytest.mark.parametrize("bad", [["--connect-addr", "here"], ["--timeout", "soon"], ["--log-level", "!"]])
def test_unreadable_flag_is_refused(bad: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(bad)
    assert caught.value.code == 2
