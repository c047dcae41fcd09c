"""`weft diagnostics`: what destination tells any proxy, asked over its own gRPC."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer

from weft_cli.cluster import find_cluster, run
from weft_cli.errors import BadInput, CliError
from weft_cli.options import ContextOption, KubeconfigOption, NamespaceOption

if TYPE_CHECKING:
    import grpc
    from google.protobuf.message import Message

T = TypeVar("T")

_CONTROL_PLANE: Final = "linkerd"
_DESTINATION: Final = "linkerd-destination"
_API_PORT: Final = 8086
_POLICY_PORT: Final = 8090
ANSWER_S: Final = 10.0

app = typer.Typer(
    name="diagnostics",
    help="What the control plane tells proxies.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

AuthorityArgument = Annotated[
    str,
    typer.Argument(metavar="AUTHORITY", help="Such as web.shop.svc.cluster.local:8080; profile takes an address too."),
]


@app.callback()
def diagnostics() -> None:
    """What the control plane tells proxies."""


@app.command()
def endpoints(authority: AuthorityArgument, kubeconfig: KubeconfigOption = None, context: ContextOption = None) -> None:
    """Endpoints of a Service port, as JSON. Example:  weft diagnostics endpoints web.shop.svc.cluster.local:80"""
    from weft_proto.linkerd import destination_pb2 as pb
    from weft_proto.linkerd import destination_pb2_grpc

    async def ask(channel: grpc.aio.Channel) -> Message:
        stub: destination_pb2_grpc.DestinationAsyncStub = destination_pb2_grpc.DestinationStub(channel)
        return await _first(stub.Get(pb.GetDestination(path=authority), timeout=ANSWER_S))

    _print(_API_PORT, ask, kubeconfig, context)


@app.command()
def profile(authority: AuthorityArgument, kubeconfig: KubeconfigOption = None, context: ContextOption = None) -> None:
    """The profile of a name or an address with its port, as JSON. Example:  weft diagnostics profile 10.96.0.7:80"""
    from weft_proto.linkerd import destination_pb2 as pb
    from weft_proto.linkerd import destination_pb2_grpc

    async def ask(channel: grpc.aio.Channel) -> Message:
        stub: destination_pb2_grpc.DestinationAsyncStub = destination_pb2_grpc.DestinationStub(channel)
        return await _first(stub.GetProfile(pb.GetDestination(path=authority), timeout=ANSWER_S))

    _print(_API_PORT, ask, kubeconfig, context)


@app.command()
def policy(
    resource: Annotated[
        str, typer.Argument(metavar="po/NAME|svc/NAME", help="A pod, as a server; a Service, as a target.")
    ],
    port: Annotated[int, typer.Argument(metavar="PORT", min=1, max=65535)],
    namespace: NamespaceOption = None,
    from_namespace: Annotated[
        str | None,
        typer.Option("--from", metavar="NS", help="Namespace of the client of a Service; its own by default."),
    ] = None,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
) -> None:
    """Inbound policy of a pod's port, or outbound policy of a Service's, as JSON.

    Example:  weft diagnostics policy -n shop po/web-6d4c 8080
    """
    from weft_proto.linkerd import inbound_pb2, inbound_pb2_grpc, outbound_pb2, outbound_pb2_grpc

    kind, slash, name = resource.partition("/")
    where = namespace or find_cluster(kubeconfig, context).namespace or "default"
    if not slash or not name or kind not in ("po", "pod", "pods", "svc", "service", "services"):
        raise BadInput(f"{resource!r}: expected po/NAME or svc/NAME")

    async def ask(channel: grpc.aio.Channel) -> Message:
        if kind.startswith("po"):
            inbound: inbound_pb2_grpc.InboundServerPoliciesAsyncStub
            inbound = inbound_pb2_grpc.InboundServerPoliciesStub(channel)
            workload = json.dumps({"ns": where, "pod": name})
            return await _first(inbound.WatchPort(inbound_pb2.PortSpec(workload=workload, port=port), timeout=ANSWER_S))
        outbound: outbound_pb2_grpc.OutboundPoliciesAsyncStub = outbound_pb2_grpc.OutboundPoliciesStub(channel)
        source = json.dumps({"ns": from_namespace or where, "pod": "weft-diagnostics"})
        target = outbound_pb2.TrafficSpec(source_workload=source, authority=f"{name}.{where}.svc.cluster.local:{port}")
        return await outbound.Get(target, timeout=ANSWER_S)

    _print(_POLICY_PORT, ask, kubeconfig, context)


async def _first(stream: Any) -> Message:
    async for message in stream:
        found: Message = message
        return found
    raise CliError("the stream ended before an answer; the control plane may be stopping, try again")


def _print(
    port: int, ask: Callable[[grpc.aio.Channel], Awaitable[Message]], kubeconfig: Path | None, context: str | None
) -> None:
    from google.protobuf.json_format import MessageToDict

    config = find_cluster(kubeconfig, context)

    async def main() -> Message:
        import grpc

        async with _destination(config, port) as channel:
            try:
                return await ask(channel)
            except grpc.aio.AioRpcError as error:
                raise _refused(error) from error

    typer.echo(json.dumps(_readable(MessageToDict(run(main(), config), preserving_proto_field_name=True)), indent=2))


def _readable(value: Any) -> Any:
    """Addresses as people write them, instead of as whole numbers."""
    match value:
        case {"ipv4": int(number)}:
            return str(IPv4Address(number))
        case {"ipv6": {"first": first, "last": last}}:
            return str(IPv6Address(int(first) << 64 | int(last)))
        case dict():
            return {name: _readable(each) for name, each in value.items()}
        case list():
            return [_readable(each) for each in value]
        case _:
            return value


def _refused(error: grpc.aio.AioRpcError) -> CliError:
    import grpc

    message = error.details() or error.code().name
    if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
        return BadInput(message)
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return CliError(f"destination has told nothing within {ANSWER_S:g} s: there is nothing to tell yet")
    return CliError(f"destination says {error.code().name}: {message}")


@asynccontextmanager
async def _destination(config: Any, port: int) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to a ready pod of destination. Raises CliError."""
    import grpc
    from weft_common.kube.client import KubeClient
    from weft_common.kube.resource import PODS

    async with KubeClient(config) as kube:
        selector = {"labelSelector": "linkerd.io/control-plane-component=destination"}
        pods = (await kube.list(PODS.path(_CONTROL_PLANE), selector))["items"]
    addresses = [
        pod["status"]["podIP"]
        for pod in pods
        if pod.get("status", {}).get("podIP")
        and any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions") or ())
    ]
    if not addresses:
        raise CliError(f"{_DESTINATION} has no ready pod", hint=f"look:  kubectl get pods -n {_CONTROL_PLANE}")
    async with grpc.aio.insecure_channel(f"{addresses[0]}:{port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
        yield channel
