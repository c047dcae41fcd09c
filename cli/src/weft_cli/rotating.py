"""Starts, follows and aborts a rotation by the two objects that hold it; the identity service does the work.

Everything goes through the API server, so its permissions decide who may rotate.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf import json_format
from weft_common.kube.client import KubeClient, KubeError
from weft_common.kube.resource import CONFIG_MAPS, SECRETS, Resource
from weft_proto.weft import identity_pb2 as pb

from weft_cli.core.rotation_plan import Current, Issuer, managed_by
from weft_cli.errors import CliError

ROTATION: Final = "weft-identity-rotation"
TRUST_ROOTS: Final = "linkerd-identity-trust-roots"
ISSUER: Final = "linkerd-identity-issuer"
BUNDLE_KEY: Final = "ca-bundle.crt"
STATE_KEY: Final = "state"
_LOOK_EVERY_S: Final = 0.5
_CONFLICT: Final = 409
_NOT_FOUND: Final = 404


@dataclass(frozen=True, slots=True)
class RotationStore:
    """The rotation of one mesh. namespace: the control plane's."""

    kube: KubeClient
    namespace: str

    async def current(self) -> Current:
        """What signs and what is trusted now. Raises CliError when somebody else looks after it, or it is missing."""
        roots = await self._object(CONFIG_MAPS, TRUST_ROOTS)
        secret = await self._object(SECRETS, ISSUER)
        for obj, what in ((roots, f"ConfigMap {TRUST_ROOTS}"), (secret, f"Secret {ISSUER}")):
            metadata = obj["metadata"]
            if owner := managed_by([metadata.get("labels") or {}, metadata.get("annotations") or {}]):
                raise CliError(
                    f"{what} is kept by {owner}, which would undo a rotation",
                    hint="renew the Certificate or change the Bundle there; proxies follow by themselves, and "
                    "`weft identity status` shows who trusts what before you take the next step",
                )
        data = {name: base64.b64decode(value).decode() for name, value in (secret.get("data") or {}).items()}
        pair = next((p for p in (("crt.pem", "key.pem"), ("tls.crt", "tls.key")) if p[0] in data), None)
        bundle = (roots.get("data") or {}).get(BUNDLE_KEY, "")
        if pair is None or pair[1] not in data or not bundle.strip():
            raise CliError(f"{TRUST_ROOTS} or {ISSUER} is incomplete", hint="see what is missing:  weft check")
        return Current(bundle, Issuer(data[pair[0]], data[pair[1]]))

    async def state(self) -> pb.RotationState | None:
        """The last rotation, None when there was none. Raises CliError."""
        try:
            obj = await self.kube.get(CONFIG_MAPS.path(self.namespace, ROTATION))
        except KubeError as error:
            if error.status == _NOT_FOUND:
                return None
            raise
        return _state_in(obj)

    async def begin(self, state: pb.RotationState, keys: Mapping[str, str]) -> None:
        """Raises CliError when another one is under way."""
        running = await self.state()
        if running is not None and running.stage != pb.RotationState.DONE:
            raise CliError(
                f"rotation {running.id} is under way",
                hint="see it: weft identity rotate status  ·  take it back: weft identity rotate abort",
            )
        encoded = {name: base64.b64encode(text.encode()).decode() for name, text in keys.items()}
        await self._put(SECRETS, {"type": "Opaque", "data": encoded})
        # The keys first: the machine begins when it sees the state.
        await self._put(CONFIG_MAPS, {"data": {STATE_KEY: json_format.MessageToJson(state, indent=None)}})

    async def abort(self) -> pb.RotationState:
        """Ask it to turn back. Raises CliError when it no longer can."""
        path = CONFIG_MAPS.path(self.namespace, ROTATION)
        while True:
            state = await self.state()
            if state is None or state.stage == pb.RotationState.DONE:
                raise CliError("no rotation is under way")
            if state.stage == pb.RotationState.DROP:
                raise CliError(
                    f"rotation {state.id} is past the point where it can be taken back",
                    hint="let it finish, then rotate again with --to FILE",
                )
            obj = await self.kube.get(path)
            state = _state_in(obj)
            state.abort_requested = True
            obj["data"] = {STATE_KEY: json_format.MessageToJson(state, indent=None)}
            try:
                await self.kube.update(path, obj)
            except KubeError as error:
                if error.status != _CONFLICT:
                    raise
                continue
            return state

    async def follow(self, told: Callable[[pb.RotationState], None], timeout_s: float) -> pb.RotationState:
        """Until it is done or the time is over; the last state. told: every state that differs from the one before."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        seen: pb.RotationState | None = None
        while True:
            state = await self.state()
            if state is None:
                raise CliError(
                    "the rotation's state was deleted", hint="see where the mesh stands: weft identity status"
                )
            if state != seen:
                told(state)
                seen = state
            if state.stage == pb.RotationState.DONE or loop.time() >= deadline:
                return state
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _object(self, resource: Resource, name: str) -> dict[str, Any]:
        try:
            return await self.kube.get(resource.path(self.namespace, name))
        except KubeError as error:
            if error.status == _NOT_FOUND:
                raise CliError(
                    f"{resource.kind} {self.namespace}/{name} does not exist", hint="is the mesh installed?  weft check"
                ) from error
            raise

    async def _put(self, resource: Resource, content: dict[str, Any]) -> None:
        body = {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": {
                "name": ROTATION,
                "namespace": self.namespace,
                "labels": {
                    "linkerd.io/control-plane-component": "identity",
                    "linkerd.io/control-plane-ns": self.namespace,
                },
            },
            **content,
        }
        try:
            await self.kube.create(resource.path(self.namespace), body)
        except KubeError as error:
            if error.status != _CONFLICT:
                raise
            await self.kube.update(resource.path(self.namespace, ROTATION), body)


def _state_in(obj: dict[str, Any]) -> pb.RotationState:
    try:
        return json_format.Parse((obj.get("data") or {}).get(STATE_KEY, ""), pb.RotationState())
    except json_format.ParseError as error:
        raise CliError(
            f"ConfigMap {ROTATION} holds no rotation", hint=f"if nothing is rotating, delete ConfigMap {ROTATION}"
        ) from error
