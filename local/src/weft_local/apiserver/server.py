"""The API server as something that runs: settings, wiring, sockets, start and stop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path
from typing import Final

import uvicorn
from cryptography.hazmat.primitives.asymmetric import ec

from weft_local.apiserver.app import Application
from weft_local.apiserver.operations import Operations
from weft_local.apiserver.runtime import PodRuntime
from weft_local.apiserver.storage import Storage
from weft_local.apiserver.subresources import Subresources
from weft_local.apiserver.tokens import TokenAuthority, User
from weft_local.apiserver.watching import Watches
from weft_local.apiserver.webhooks import ResolveService, WebhookCaller

ADMIN: Final = User("system:admin", ("system:masters", "system:authenticated"))
_BACKLOG: Final = 512
# What a client has to finish a request after stop; watches are ended at once.
_GRACE_S: Final = 2


@dataclass(frozen=True, slots=True)
class ApiServerSettings:
    """addresses: (host, port) pairs to listen on; port 0 takes a free one. tokens: users by static bearer token.

    resolve_service: where a webhook's Service can be reached; raises LookupError or OSError when nowhere.
    reserved_ips: addresses of service_cidr that are never given to a Service by chance.
    """

    addresses: tuple[tuple[str, int], ...]
    certificate: Path
    private_key: Path
    token_key: ec.EllipticCurvePrivateKey
    service_cidr: IPv4Network
    resolve_service: ResolveService
    tokens: Mapping[str, User] = field(default_factory=dict)
    reserved_ips: tuple[str, ...] = ()


class ApiServer:
    """The server. `runtime` is set once the node runs; `started` once every address accepts."""

    def __init__(self, settings: ApiServerSettings) -> None:
        self._settings = settings
        self.storage = Storage()
        self._webhooks = WebhookCaller(settings.resolve_service)
        self.operations = Operations(self.storage, self._webhooks, settings.service_cidr, settings.reserved_ips)
        self.tokens = TokenAuthority(settings.token_key, self.operations.uid_of)
        self.runtime: PodRuntime | None = None
        self.started = asyncio.Event()
        self.ports: tuple[int, ...] = ()
        """The port of each address, in their order, once started."""
        self._watches = Watches(self.storage)
        self._app = Application(
            self.operations,
            self._watches,
            self.tokens,
            Subresources(self.operations, self.tokens, self),
            settings.tokens,
        )

    async def serve(self, stop: asyncio.Event) -> None:
        """Serve until stop is set. Raises OSError when an address cannot be bound."""
        with contextlib.ExitStack() as stack:
            sockets = [stack.enter_context(_listening(host, port)) for host, port in self._settings.addresses]
            self.ports = tuple(listening.getsockname()[1] for listening in sockets)
            server = _Server(self._config())
            async with self._webhooks, asyncio.TaskGroup() as group:
                collector = group.create_task(self.operations.deletions.collect(), name="garbage-collector")
                http = group.create_task(server.serve(sockets=sockets), name="api-http")
                # Binding has happened, so connections made from now on wait in the backlog until uvicorn takes them.
                self.started.set()
                stopped = group.create_task(stop.wait(), name="api-stop")
                await asyncio.wait({http, stopped}, return_when=asyncio.FIRST_COMPLETED)
                self._watches.end()
                server.should_exit = True
                collector.cancel()
                stopped.cancel()

    def _config(self) -> uvicorn.Config:
        return uvicorn.Config(
            self._app,
            log_config=None,
            access_log=False,
            lifespan="off",
            interface="asgi3",
            ssl_certfile=str(self._settings.certificate),
            ssl_keyfile=str(self._settings.private_key),
            ssl_cert_reqs=ssl.CERT_NONE,
            timeout_graceful_shutdown=_GRACE_S,
            timeout_keep_alive=75,
            ws="wsproto",
            server_header=False,
        )


class _Server(uvicorn.Server):
    """Without uvicorn's own signal handlers: stopping is a value here, and the process belongs to others."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _listening(host: str, port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(_BACKLOG)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        raise OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror}") from error
    return listening
