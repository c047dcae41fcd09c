"""The trust stream over real gRPC, and a rotation carried out against an API server, step by step."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from aiohttp import web
from google.protobuf import json_format
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis
from weft_common.kube.client import KubeClient
from weft_common.kube.config import KubeConfig
from weft_common.kube.resource import ObjectKey
from weft_common.redis_cache import RedisCache
from weft_identity.core.inventory import LeafRecord, ProxyRecord
from weft_identity.core.issuer import certificate_id
from weft_identity.core.proxies import anchor_ids, meshed_pod
from weft_identity.core.rotation import Rotation, Stage
from weft_identity.pods import MeshedPods
from weft_identity.rotator import Rotator
from weft_identity.store import MARK, CertificateInventory
from weft_identity.testing.cluster import ReviewApi
from weft_identity.testing.pki import WEB, CertifiedKey, key_pem, make_ca, pem
from weft_identity.testing.served import ca_now, eventually, served, write_issuer
from weft_proto.weft import identity_pb2 as pb
from weft_proto.weft import identity_pb2_grpc

NOW = datetime(2026, 5, 4, 12, 0, 0, tzinfo=UTC)


async def following(port: int, *reports: pb.ProxyReport) -> AsyncGenerator[pb.TrustUpdate]:
    """Updates for a proxy that sends these reports and stays."""

    async def sent() -> AsyncIterator[pb.ProxyReport]:
        for report in reports:
            yield report
        await asyncio.sleep(60)

    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: identity_pb2_grpc.TrustAsyncStub = identity_pb2_grpc.TrustStub(channel)
        async for update in stub.Follow(sent()):
            yield update


async def listed(port: int) -> pb.ListResponse:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: identity_pb2_grpc.CertificatesAsyncStub = identity_pb2_grpc.CertificatesStub(channel)
        return await stub.List(pb.ListRequest())


async def test_proxy_is_told_the_bundle_and_every_change_and_what_it_reports_is_listed(
    kube: KubeClient,
    issuer_dir: Path,
    free_ports: tuple[int, int],
    review_api: ReviewApi,
    root: CertifiedKey,
    redis_url: str,
) -> None:
    first = pb.ProxyReport(identity=WEB, token=b"secret-token", trusted_anchors=["a"], proxy="weft-proxy/1")
    later = pb.ProxyReport(identity="somebody else", trusted_anchors=["a", "b"])
    async with served(kube, issuer_dir, free_ports, WEFT_REDIS_URL=redis_url):
        updates = following(free_ports[0], first, later)
        update = await anext(updates)
        assert anchor_ids(update.bundle_pem) == {certificate_id(root[0])}
        other = ca_now("other root")
        issuer = ca_now("next issuer", root)
        (issuer_dir / "ca-bundle.crt").write_bytes(pem(root[0], other[0]))
        write_issuer(issuer_dir, issuer)
        async with asyncio.timeout(10):
            async for update in updates:
                if update.issuer_id == certificate_id(issuer[0]):
                    break
        assert anchor_ids(update.bundle_pem) == {certificate_id(root[0]), certificate_id(other[0])}

        async def both_are_reported() -> bool:
            found = (await listed(free_ports[0])).certificates
            return [list(c.trusted_anchors) for c in found] == [["a", "b"]]

        await eventually(both_are_reported)
        (certificate,) = (await listed(free_ports[0])).certificates
        assert (certificate.identity, certificate.pod, certificate.proxy) == (WEB, "web-0", "")
        await updates.aclose()
    assert review_api.reviews[0]["token"] == "secret-token"


@pytest.mark.parametrize(
    ("status", "report", "code"),
    [
        ({"error": "token has expired"}, pb.ProxyReport(identity=WEB, token=b"t"), grpc.StatusCode.UNAUTHENTICATED),
        ({}, pb.ProxyReport(identity="other.shop", token=b"t"), grpc.StatusCode.UNAUTHENTICATED),
        ({}, pb.ProxyReport(identity=WEB), grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
async def test_report_without_a_good_token_is_refused(
    kube: KubeClient,
    issuer_dir: Path,
    free_ports: tuple[int, int],
    review_api: ReviewApi,
    status: dict[str, Any],
    report: pb.ProxyReport,
    code: grpc.StatusCode,
) -> None:
    review_api.status = status or review_api.status
    async with served(kube, issuer_dir, free_ports):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await anext(following(free_ports[0], report))
        assert refused.value.code() is code
        assert not (await listed(free_ports[0])).certificates


async def test_stolen_token_buys_nothing_wherever_it_is_sent_from(
    kube: KubeClient, issuer_dir: Path, free_ports: tuple[int, int], review_api: ReviewApi
) -> None:
    review_api.objects["/api/v1/pods"] = [_pod("web-0", "4b1f", "10.0.0.1"), _pod("thief-0", "7c2e", "10.0.0.2")]
    good = review_api.status
    async with served(kube, issuer_dir, free_ports) as identity:
        await eventually(identity.is_ready)
        thief = (("l5d-client-id", "thief.shop.serviceaccount.identity.linkerd.cluster.local"),)
        for metadata, status, outcome in (
            ((("l5d-remote-ip", "10.0.0.2"),), good, "token_replayed"),
            (thief, good, "token_replayed"),
            ((), {"authenticated": False, "error": "token audiences are not ours"}, "token_wrong_audience"),
            ((), {"authenticated": False, "error": "token has expired"}, "token_expired"),
        ):
            review_api.status = status
            refused: list[str] = []

            async def is_refused(
                metadata: tuple[tuple[str, str], ...] = metadata, refused: list[str] = refused
            ) -> bool:
                # The view of the pods may be a moment younger than the service.
                try:
                    await identity.certify_with(metadata)
                except grpc.aio.AioRpcError as error:
                    refused.append(error.details() or "")
                return bool(refused)

            await eventually(is_refused)
            assert "secret-token" not in refused[0]
            assert f'outcome="{outcome}"' in (await identity.admin("/metrics"))[1]
        review_api.status = good
        await identity.certify_with((("l5d-remote-ip", "10.0.0.1"),))


def _pod(name: str, uid: str, address: str) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "shop", "name": name, "uid": uid},
        "spec": {"containers": [{"name": "linkerd-proxy", "env": []}]},
        "status": {"phase": "Running", "podIPs": [{"ip": address}]},
    }


def _leaf(pod: str, uid: str, issuer_id: str) -> LeafRecord:
    hour = timedelta(hours=1)
    return LeafRecord(WEB, "shop", pod, uid, "1", issuer_id, "", "", NOW - hour, NOW + hour, NOW)


class Objects:
    """ConfigMaps and Secrets of one namespace, with versions, as a rotation uses them."""

    def __init__(self) -> None:
        self.stored: dict[str, dict[str, Any]] = {}

    def put(self, kind: str, name: str, data: dict[str, str]) -> None:
        self.stored[f"{kind}/{name}"] = {"metadata": {"name": name, "resourceVersion": "1"}, "data": data}

    async def answer(self, request: web.Request) -> web.Response:
        key = "/".join(request.path.split("/")[-2:])
        found = self.stored.get(key)
        if found is None:
            return web.json_response({"message": "gone"}, status=404)
        if request.method == "PUT":
            body = await request.json()
            if body["metadata"]["resourceVersion"] != found["metadata"]["resourceVersion"]:
                return web.json_response({"reason": "Conflict", "message": "conflict"}, status=409)
            found["data"] = body["data"]
        elif request.method == "PATCH":
            found["data"] |= (await request.json())["data"]
        elif request.method == "DELETE":
            del self.stored[key]
        if request.method in ("PUT", "PATCH"):
            found["metadata"]["resourceVersion"] = str(int(found["metadata"]["resourceVersion"]) + 1)
        return web.json_response(found)

    @property
    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.stored["configmaps/weft-identity-rotation"]["data"]["state"])
        return found


@pytest.fixture
async def objects() -> AsyncIterator[tuple[Objects, KubeClient]]:
    stored, app = Objects(), web.Application()
    app.router.add_route("*", "/{path:.*}", stored.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with KubeClient(KubeConfig(server=url)) as kube:
        yield stored, kube
    await runner.cleanup()


OLD_ROOT, NEW_ROOT = make_ca("old root"), make_ca("new root")
OLD_ISSUER, NEW_ISSUER = make_ca("old issuer", OLD_ROOT), make_ca("new issuer", NEW_ROOT)


def begin(stored: Objects) -> None:
    state = pb.RotationState(id="r1", kind=pb.RotationState.ANCHOR, stage=pb.RotationState.PUBLISH)
    for side, name, root, issuer in (
        (getattr(state, "from"), "old", OLD_ROOT, OLD_ISSUER),
        (state.to, "new", NEW_ROOT, NEW_ISSUER),
    ):
        side.name, side.bundle_pem, side.issuer_id = name, pem(root[0]).decode(), certificate_id(issuer[0])
    state.stage_since.FromDatetime(NOW)
    stored.put("configmaps", "weft-identity-rotation", {"state": json_format.MessageToJson(state)})
    stored.put("configmaps", "linkerd-identity-trust-roots", {"ca-bundle.crt": pem(OLD_ROOT[0]).decode()})
    encoded = {
        f"{name}.{part}": base64.b64encode(text).decode()
        for name, issuer in (("old", OLD_ISSUER), ("new", NEW_ISSUER))
        for part, text in (("crt", pem(issuer[0])), ("key", key_pem(issuer[1])))
    }
    stored.put("secrets", "weft-identity-rotation", encoded)
    stored.put("secrets", "linkerd-identity-issuer", {"tls.crt": "b2xk", "tls.key": "b2xk", "ca.crt": "a2VwdA=="})


def replica(kube: KubeClient, inventory: CertificateInventory, told: list[str]) -> Rotator:
    pods = MeshedPods()
    return Rotator(
        kube, "linkerd", pods, inventory, timedelta(hours=1), lambda: NOW, lambda r, m, w: told.append(m), lambda: False
    )


async def test_each_step_may_be_done_by_another_replica_and_the_keys_go_at_the_end(
    objects: tuple[Objects, KubeClient],
) -> None:
    stored, kube = objects
    begin(stored)
    inventory = CertificateInventory(RedisCache(None, CollectorRegistry()), lambda: NOW)
    told: list[str] = []
    seen: list[Stage] = []
    while not seen or seen[-1] is not Stage.DONE:
        # A fresh replica for each step: nothing is remembered outside the cluster.
        seen.append((await replica(kube, inventory, told).step()).stage)
    assert seen == [Stage.TRUST, Stage.SWITCH, Stage.RENEW, Stage.DROP, Stage.DONE]
    issuer = stored.stored["secrets/linkerd-identity-issuer"]["data"]
    assert base64.b64decode(issuer["tls.crt"]) == pem(NEW_ISSUER[0])
    assert issuer["ca.crt"] == "a2VwdA=="
    bundle = stored.stored["configmaps/linkerd-identity-trust-roots"]["data"]["ca-bundle.crt"]
    assert anchor_ids(bundle) == {certificate_id(NEW_ROOT[0])}
    assert [message.rpartition(": ")[2] for message in told] == ["trust", "switch", "renew", "drop", "done"]
    last = replica(kube, inventory, told)
    last.index.text = stored.stored["configmaps/weft-identity-rotation"]["data"]["state"]
    await last._look()
    assert "secrets/weft-identity-rotation" not in stored.stored


async def test_gate_that_does_not_hold_names_the_pod_in_the_cluster(objects: tuple[Objects, KubeClient]) -> None:
    stored, kube = objects
    begin(stored)
    inventory = CertificateInventory(RedisCache(None, CollectorRegistry()), lambda: NOW)
    told: list[str] = []
    rotator = replica(kube, inventory, told)
    rotator.pods.reset({})
    rotator.pods.apply(ObjectKey("shop", "web-0"), meshed_pod(_pod("web-0", "4b1f", "10.0.0.1")))
    await rotator.step()
    held = await rotator.step()
    assert (held.stage, [holder.pod for holder in held.holders]) == (Stage.TRUST, ["web-0"])
    assert stored.state["holders"][0]["pod"] == "web-0"
    version = stored.stored["configmaps/weft-identity-rotation"]["metadata"]["resourceVersion"]
    await rotator.step()
    # What has not changed is not written again.
    assert stored.stored["configmaps/weft-identity-rotation"]["metadata"]["resourceVersion"] == version
    both = tuple(anchor_ids(pem(OLD_ROOT[0], NEW_ROOT[0]).decode()))
    issuer = certificate_id(OLD_ISSUER[0])
    inventory.reported(ProxyRecord(WEB, "shop", "web-0", "4b1f", both, "1", issuer, NOW + timedelta(hours=1), "p", NOW))
    assert (await rotator.step()).stage is Stage.SWITCH


async def test_rotation_without_its_keys_says_so_and_stays(objects: tuple[Objects, KubeClient]) -> None:
    stored, kube = objects
    begin(stored)
    del stored.stored["secrets/weft-identity-rotation"]
    told: list[str] = []
    rotator = replica(kube, CertificateInventory(RedisCache(None, CollectorRegistry()), lambda: NOW), told)
    stages: list[Rotation] = [await rotator.step() for _ in range(4)]
    assert stages[-1].stage is Stage.SWITCH
    assert "is gone" in stored.state["trouble"]
    assert sum("is gone" in message for message in told) == 1


async def test_inventory_is_written_again_when_redis_lost_it(redis_url: str) -> None:
    cache = RedisCache.from_url(redis_url, CollectorRegistry())
    inventory = CertificateInventory(cache, lambda: datetime.now(UTC))
    now = datetime.now(UTC)
    hour = timedelta(hours=1)
    inventory.issued(LeafRecord(WEB, "shop", "web-0", "4b1f", "1", "i", "k", "a", now - hour, now + hour, now))
    assert await inventory.write_missed() == 1
    assert await inventory.write_missed() == 0
    async with Redis.from_url(redis_url) as redis:
        assert await redis.exists(MARK)
        await redis.flushall()
        assert await inventory.write_missed() == 1
        assert await redis.keys("weft:identity:leaf:*") == [f"weft:identity:leaf:{WEB}:4b1f".encode()]
    other = CertificateInventory(RedisCache.from_url(redis_url, CollectorRegistry()), lambda: datetime.now(UTC))
    found, complete = await other.certificates()
    assert ([c.serial for c in found], complete) == (["1"], True)
    await cache.close()
    await other.cache.close()
