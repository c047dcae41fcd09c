"""Carries out rotations: reads the state from the cluster, asks core.rotation for the next step, does it, writes it.

Any replica may do any step: a step changes the cluster to what the state says, and the state is replaced only as long
as nobody else has replaced it. So a replica that is killed in between leaves nothing that another would do wrong.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from weft_common.kube.client import KubeClient, KubeError
from weft_common.kube.informer import Informer
from weft_common.kube.resource import CONFIG_MAPS, SECRETS, ObjectKey
from weft_common.log import get_logger

from weft_identity.core.rotation import Live, Rotation, Stage, Step, next_step
from weft_identity.pods import MeshedPods
from weft_identity.rotation_state import (
    STATE_KEY,
    BadRotationState,
    StoredRotation,
    json_from_stored,
    stored_from_json,
)
from weft_identity.store import CertificateInventory

ROTATION: Final = "weft-identity-rotation"
TRUST_ROOTS: Final = "linkerd-identity-trust-roots"
BUNDLE_KEY: Final = "ca-bundle.crt"
ISSUER: Final = "linkerd-identity-issuer"
# Certificate and key names by Secret scheme: linkerd.io/tls first, then kubernetes.io/tls.
PAIRS: Final = (("crt.pem", "key.pem"), ("tls.crt", "tls.key"))
_LOOK_EVERY_S: Final = 1.0
_REST_SHARE: Final = 10.0
_CONFLICT: Final = 409
_NOT_FOUND: Final = 404

_log = get_logger(__name__)


class CannotStep(Exception):
    """The cluster lacks what a step needs. The text says what; the step is tried again."""


@dataclass(slots=True)
class RotationIndex:
    """The one ConfigMap, as an Informer keeps it."""

    text: str = ""

    def apply(self, key: ObjectKey, obj: str) -> None:
        self.text = obj

    def delete(self, key: ObjectKey) -> None:
        self.text = ""

    def reset(self, objs: Mapping[ObjectKey, str]) -> None:
        self.text = next(iter(objs.values()), "")


@dataclass(slots=True)
class Rotator:
    """told: called with (reason, message, is_warning) at every new stage and for every new trouble.

    issuer_is_over: whether what signs has expired.
    """

    kube: KubeClient
    namespace: str
    pods: MeshedPods
    inventory: CertificateInventory
    leaf_lifetime: timedelta
    now: Callable[[], datetime]
    told: Callable[[str, str, bool], None]
    issuer_is_over: Callable[[], bool]
    index: RotationIndex = field(default_factory=RotationIndex)
    _bad: str = field(default="", init=False)
    _cleaned: str = field(default="", init=False)

    def informer(self) -> Informer[str]:
        """Follows the state."""
        return Informer(
            self.kube,
            CONFIG_MAPS,
            lambda raw: str((raw.get("data") or {}).get(STATE_KEY, "")),
            self.index,
            namespace=self.namespace,
            field_selector=f"metadata.name={ROTATION}",
        )

    async def run(self, pods_known: asyncio.Event) -> None:
        """Until cancelled. pods_known: gates are not looked at before the cluster's pods are."""
        await pods_known.wait()
        loop = asyncio.get_running_loop()
        wait_s = _LOOK_EVERY_S
        while True:
            await asyncio.sleep(wait_s)
            began = loop.time()
            if self.index.text:
                await self._look()
            # Looking through tens of thousands of certificates takes a while, which Certify shall not notice.
            wait_s = max(_LOOK_EVERY_S, _REST_SHARE * (loop.time() - began))

    async def _look(self) -> None:
        try:
            stored = stored_from_json(self.index.text)
            if stored.rotation.stage is not Stage.DONE:
                await self.step()
            elif self._cleaned != stored.message.id:
                # Whoever finished it may have been killed before this.
                await self._forget_keys()
                self._cleaned = stored.message.id
        except BadRotationState as error:
            if self._bad != self.index.text:
                self._bad = self.index.text
                self.told("RotationUnreadable", f"ConfigMap {ROTATION}: {error}", True)
        except KubeError as error:
            # Another replica was faster, or the API server is away: the next look sees what is true then.
            if error.status not in (_CONFLICT, _NOT_FOUND):
                _log.warning("the rotation cannot go on now", status=error.status, error=error.message)

    async def step(self) -> Rotation:
        """One step from what the cluster says now. Raises KubeError, BadRotationState."""
        path = CONFIG_MAPS.path(self.namespace, ROTATION)
        obj = await self.kube.get(path)
        stored = stored_from_json(str((obj.get("data") or {}).get(STATE_KEY, "")))
        certificates, _ = await self.inventory.certificates()
        live = Live(
            pods=self.pods.all(),
            certificates={c.either.pod_uid: c for c in certificates if c.either.pod_uid},
            leaf_lifetime=self.leaf_lifetime,
            issuer_is_over=self.issuer_is_over(),
        )
        step = next_step(stored.rotation, live, self.now())
        trouble, then = "", step.rotation
        try:
            await self._do(step)
        except (CannotStep, KubeError) as error:
            trouble, then = str(error), stored.rotation
        text = json_from_stored(stored, then, trouble)
        if text != json_from_stored(stored, stored.rotation, stored.message.trouble):
            obj["data"] = {STATE_KEY: text}
            self.index.text = text
            await self.kube.update(path, obj)
            self._tell(stored, then, trouble)
        return then

    def _tell(self, stored: StoredRotation, rotation: Rotation, trouble: str) -> None:
        if trouble and trouble != stored.message.trouble:
            self.told("RotationTrouble", f"rotation {stored.message.id}: {trouble}", True)
        elif rotation.stage is not stored.rotation.stage:
            back = ", going back" if rotation.aborted else ""
            self.told("RotationStage", f"rotation {stored.message.id}: {rotation.stage.name.lower()}{back}", False)

    async def _do(self, step: Step) -> None:
        if step.bundle_pem is not None:
            await self._write_bundle(step.bundle_pem)
        if step.issuer is not None:
            await self._install_issuer(step.issuer)

    async def _write_bundle(self, bundle_pem: str) -> None:
        await self.kube.patch(CONFIG_MAPS.path(self.namespace, TRUST_ROOTS), {"data": {BUNDLE_KEY: bundle_pem}})

    async def _install_issuer(self, side: str) -> None:
        keys = await self._keys()
        try:
            certificate, key = keys[f"{side}.crt"], keys[f"{side}.key"]
        except KeyError as error:
            raise CannotStep(f"Secret {ROTATION} lacks {error}; start the rotation again") from error
        path = SECRETS.path(self.namespace, ISSUER)
        current = (await self.kube.get(path)).get("data") or {}
        names = next((pair for pair in PAIRS if pair[0] in current), PAIRS[0])
        await self.kube.patch(path, {"data": {names[0]: certificate, names[1]: key}})

    async def _keys(self) -> dict[str, str]:
        """Values as Secrets hold them, base64."""
        try:
            secret = await self.kube.get(SECRETS.path(self.namespace, ROTATION))
        except KubeError as error:
            if error.status == _NOT_FOUND:
                raise CannotStep(f"Secret {ROTATION} is gone; start the rotation again") from error
            raise
        found: dict[str, Any] = secret.get("data") or {}
        return {name: str(value) for name, value in found.items()}

    async def _forget_keys(self) -> None:
        try:
            await self.kube.delete(SECRETS.path(self.namespace, ROTATION))
        except KubeError as error:
            if error.status != _NOT_FOUND:
                _log.warning("the keys of a finished rotation are still there", secret=ROTATION, error=error.message)
