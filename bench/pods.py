"""Two network namespaces joined by one cable, and what runs in them: the place where one peer is measured."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from uuid import uuid4

CLIENT_IP: Final = "10.212.0.2"
SERVER_IP: Final = "10.212.0.3"
END_WITHIN_S: Final = 8


class Pod:
    """One namespace; its processes end with the stack."""

    def __init__(self, name: str, ip: str, folder: Path, stack: contextlib.ExitStack) -> None:
        self.name = name
        self.ip = ip
        self._folder = folder
        self._stack = stack

    def spawn(
        self, *command: str, core: int, group: int | None = None, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """A process pinned to one core. Its log is named for its program, in the peer's folder."""
        log = self._stack.enter_context((self._folder / f"{self.name}-{Path(command[0]).name}.log").open("a"))
        process = subprocess.Popen(
            ["ip", "netns", "exec", self.name, "taskset", "-c", str(core), *command],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            group=group,
            env=dict(env) if env is not None else None,
        )
        self._stack.callback(_end, process)
        return process

    def run(self, *command: str, core: int | None = None, limit_s: float = 60) -> str:
        pinned = [] if core is None else ["taskset", "-c", str(core)]
        done = subprocess.run(
            ["ip", "netns", "exec", self.name, *pinned, *command],
            capture_output=True, text=True, check=False, timeout=limit_s,
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command[:3])} failed in {self.name}: {done.stderr.strip()[-400:]}")
        return done.stdout


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(END_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout:
        process.stdout.close()


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


def make_pods(folder: Path, stack: contextlib.ExitStack) -> tuple[Pod, Pod]:
    """Client and server. Every peer has a pair of its own, so all may use the same addresses."""
    tag = uuid4().hex[:5]
    pods = Pod(f"wb-{tag}-c", CLIENT_IP, folder, stack), Pod(f"wb-{tag}-s", SERVER_IP, folder, stack)
    for pod in pods:
        _ip("netns", "add", pod.name)
        stack.callback(_ip, "netns", "del", pod.name)
    client, server = pods
    _ip("-n", client.name, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", server.name)
    for pod in pods:
        _ip("-n", pod.name, "link", "set", "lo", "up")
        _ip("-n", pod.name, "addr", "add", f"{pod.ip}/24", "dev", "eth0")
        _ip("-n", pod.name, "link", "set", "eth0", "up")
    return pods
