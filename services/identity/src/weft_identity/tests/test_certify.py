"""Certify over real gRPC: the checks in their order, their codes, and what is left behind."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from redis.asyncio import Redis
from weft_common.kube.client import KubeClient
from weft_identity.app import IssuerRejected, serve
from weft_identity.config import IdentitySettings, settings_from_environ
from weft_identity.testing.cluster import ReviewApi
from weft_identity.testing.pki import WEB, CertifiedKey, csr_for, key_pem, make_ca, make_csr, pem
from weft_proto.linkerd import identity_pb2, identity_pb2_grpc

OTHER = "other.shop.serviceaccount.identity.linkerd.cluster.local"


def ca_now(common_name: str, parent: CertifiedKey | None = None, hours: float = 1000) -> CertifiedKey:
    now = datetime.now(UTC)
    return make_ca(common_name, parent, start=now - timedelta(hours=1), end=now + timedelta(hours=hours))


@pytest.fixture
def root() -> CertifiedKey:
    return ca_now("root")


@pytest.fixture
def issuer_dir(tmp_path: Path, root: CertifiedKey) -> Path:
    (tmp_path / "ca-bundle.crt").write_bytes(pem(root[0]))
    write_issuer(tmp_path, ca_now("issuer", root))
    return tmp_path


def write_issuer(directory: Path, issuer: CertifiedKey) -> None:
    (directory / "key.pem").write_bytes(key_pem(issuer[1]))
    (directory / "crt.pem").write_bytes(pem(issuer[0]))


async def eventually(check: Callable[[], object], within_s: float = 10) -> None:
    """Until check holds; for effects that happen beside a call and tell nobody."""
    async with asyncio.timeout(within_s):
        while True:
            found = check()
            if await found if inspect.isawaitable(found) else found:
                return
            await asyncio.sleep(0.02)


@dataclass
class Served:
    stub: identity_pb2_grpc.IdentityAsyncStub
    admin_url: str

    async def certify(self, **changes: object) -> identity_pb2.CertifyResponse:
        fields: dict[str, object] = {
            "identity": WEB,
            "token": b"secret-token",
            "certificate_signing_request": csr_for(WEB),
            **changes,
        }
        return await self.stub.Certify(identity_pb2.CertifyRequest(**fields))  # type: ignore[arg-type]

    async def refusal(self, **changes: object) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await self.certify(**changes)
        return refused.value.code(), refused.value.details() or ""

    async def is_ready(self) -> bool:
        return (await self.admin("/ready"))[0] == 200

    async def admin(self, path: str) -> tuple[int, str]:
        async with aiohttp.ClientSession() as session, session.get(self.admin_url + path) as response:
            return response.status, await response.text()


@asynccontextmanager
async def served(kube: KubeClient, directory: Path, free_ports: tuple[int, int], **more: str) -> AsyncIterator[Served]:
    settings: IdentitySettings = settings_from_environ(
        {
            "WEFT_ISSUER_DIR": str(directory),
            "WEFT_TRUST_ROOTS_FILE": str(directory / "ca-bundle.crt"),
            "WEFT_GRPC_PORT": str(free_ports[0]),
            "WEFT_ADMIN_PORT": str(free_ports[1]),
            **more,
        }
    )
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(serve(settings, kube, stop))
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{free_ports[0]}") as channel:
                ready = asyncio.ensure_future(channel.channel_ready())
                done, _ = await asyncio.wait({ready, task}, timeout=10, return_when=asyncio.FIRST_COMPLETED)
                assert ready in done, task
                stub: identity_pb2_grpc.IdentityAsyncStub = identity_pb2_grpc.IdentityStub(channel)
                yield Served(stub, f"http://127.0.0.1:{free_ports[1]}")
        finally:
            stop.set()


async def test_workload_gets_a_leaf_for_its_own_identity(
    kube: KubeClient, issuer_dir: Path, free_ports: tuple[int, int], review_api: ReviewApi, root: CertifiedKey
) -> None:
    async with served(kube, issuer_dir, free_ports) as identity:
        answer = await identity.certify()
        leaf = x509.load_der_x509_certificate(answer.leaf_certificate)
        issuer = x509.load_der_x509_certificate(answer.intermediate_certificates[0])
        leaf.verify_directly_issued_by(issuer)
        issuer.verify_directly_issued_by(root[0])
        assert answer.valid_until.ToDatetime(UTC) == leaf.not_valid_after_utc
        assert review_api.reviews == [{"token": "secret-token", "audiences": ["identity.l5d.io"]}]
        status, metrics = await identity.admin("/metrics")
        assert status == 200
        assert 'weft_identity_certify_total{outcome="issued"} 1.0' in metrics
        ttl = next(line for line in metrics.splitlines() if line.startswith("issuer_cert_ttl_seconds "))
        assert float(ttl.split()[1]) > 3_000_000
        assert await identity.admin("/ready") == (200, "ok\n")
        await eventually(lambda: review_api.events)
        event = review_api.events[0]
        assert (event["reason"], event["involvedObject"]["name"]) == ("IssuedLeafCertificate", "web")


async def test_refusals_have_their_codes_and_never_repeat_the_token(
    kube: KubeClient, issuer_dir: Path, free_ports: tuple[int, int], review_api: ReviewApi
) -> None:
    codes = grpc.StatusCode
    good = review_api.status
    other_user = {**good, "user": {"username": "system:serviceaccount:shop:other"}}
    rsa_csr = make_csr(x509.DNSName(WEB), key=rsa.generate_private_key(65537, 2048))
    async with served(kube, issuer_dir, free_ports) as identity:
        for changes, status, expected in (
            ({"identity": ""}, good, codes.INVALID_ARGUMENT),
            ({"token": b""}, good, codes.INVALID_ARGUMENT),
            ({"certificate_signing_request": b""}, good, codes.INVALID_ARGUMENT),
            ({"certificate_signing_request": b"nonsense"}, good, codes.INVALID_ARGUMENT),
            ({"certificate_signing_request": csr_for(OTHER)}, good, codes.FAILED_PRECONDITION),
            ({}, {"error": "token is expired"}, codes.INVALID_ARGUMENT),
            ({}, {"authenticated": False}, codes.FAILED_PRECONDITION),
            ({}, {**good, "user": {"username": "alice"}}, codes.INVALID_ARGUMENT),
            ({}, other_user, codes.FAILED_PRECONDITION),
            ({"certificate_signing_request": rsa_csr}, good, codes.INTERNAL),
        ):
            review_api.status = status
            code, details = await identity.refusal(**changes)
            assert code is expected, (changes, status, details)
            assert details
            assert "secret-token" not in details
        review_api.is_away = True
        assert (await identity.refusal())[0] is codes.INTERNAL
        _, metrics = await identity.admin("/metrics")
        assert 'weft_identity_certify_total{outcome="identity_mismatch"} 1.0' in metrics


async def test_review_is_repeated_without_audience_when_the_server_rejects_audiences(
    kube: KubeClient, issuer_dir: Path, free_ports: tuple[int, int], review_api: ReviewApi
) -> None:
    review_api.refuse_audience = True
    async with served(kube, issuer_dir, free_ports) as identity:
        await identity.certify()
    assert [review.get("audiences") for review in review_api.reviews] == [["identity.l5d.io"], None]


async def test_service_waits_for_an_issuer_and_takes_each_new_one(
    kube: KubeClient, issuer_dir: Path, free_ports: tuple[int, int], review_api: ReviewApi, root: CertifiedKey
) -> None:
    (issuer_dir / "crt.pem").rename(issuer_dir / "held-back.pem")
    async with served(kube, issuer_dir, free_ports) as identity:
        assert (await identity.refusal(identity=""))[0] is grpc.StatusCode.UNAVAILABLE
        assert (await identity.admin("/ready"))[0] == 503
        second = ca_now("second issuer", root)
        write_issuer(issuer_dir, second)
        await eventually(identity.is_ready)
        answer = await identity.certify()
        assert x509.load_der_x509_certificate(answer.intermediate_certificates[0]) == second[0]
        write_issuer(issuer_dir, ca_now("stranger"))
        await eventually(lambda: any(event["reason"] == "IssuerUpdateSkipped" for event in review_api.events))
        answer = await identity.certify()
        assert x509.load_der_x509_certificate(answer.intermediate_certificates[0]) == second[0]


async def test_issuer_of_another_root_stops_the_start(
    kube: KubeClient, issuer_dir: Path, free_ports: tuple[int, int]
) -> None:
    write_issuer(issuer_dir, ca_now("stranger"))
    settings = settings_from_environ(
        {"WEFT_ISSUER_DIR": str(issuer_dir), "WEFT_TRUST_ROOTS_FILE": str(issuer_dir / "ca-bundle.crt")}
    )
    with pytest.raises(IssuerRejected, match="no trust root"):
        await serve(replace(settings, grpc_port=free_ports[0], admin_port=free_ports[1]), kube, asyncio.Event())


async def test_record_of_a_leaf_lives_in_redis_as_long_as_the_leaf(
    kube: KubeClient, issuer_dir: Path, free_ports: tuple[int, int], redis_url: str
) -> None:
    async with (
        served(kube, issuer_dir, free_ports, WEFT_REDIS_URL=redis_url) as identity,
        Redis.from_url(redis_url) as redis,
    ):
        await identity.certify()
        answer = await identity.certify()
        leaf = x509.load_der_x509_certificate(answer.leaf_certificate)
        key = f"weft:identity:leaf:{WEB}:4b1f"
        serial = format(leaf.serial_number, "x").encode()

        async def is_recorded() -> bool:
            return await redis.hget(key, "serial") == serial

        await eventually(is_recorded)
        record = await redis.hgetall(key)
        assert record[b"pod"] == b"web-0"
        assert record[b"not_after"] == leaf.not_valid_after_utc.isoformat().encode()
        assert await redis.expiretime(key) == int(leaf.not_valid_after_utc.timestamp())
        assert await redis.keys() == [key.encode()]


async def test_certificates_are_issued_while_redis_is_away(
    kube: KubeClient, issuer_dir: Path, free_ports: tuple[int, int]
) -> None:
    async with served(kube, issuer_dir, free_ports, WEFT_REDIS_URL="redis://127.0.0.1:1/0") as identity:
        await identity.certify()
        await identity.certify()

        async def redis_is_reported_away() -> bool:
            return "weft_redis_up 0.0" in (await identity.admin("/metrics"))[1]

        await eventually(redis_is_reported_away)
