"""Certify over real gRPC: the checks in their order, their codes, and what is left behind."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from redis.asyncio import Redis
from weft_common.kube.client import KubeClient
from weft_identity.app import IssuerRejected, serve
from weft_identity.config import settings_from_environ
from weft_identity.testing.cluster import ReviewApi
from weft_identity.testing.pki import WEB, CertifiedKey, csr_for, make_csr
from weft_identity.testing.served import ca_now, eventually, served, write_issuer

OTHER = "other.shop.serviceaccount.identity.linkerd.cluster.local"


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


async def test_many_proxies_at_once_share_a_few_connections_to_the_api_server(
    kube: KubeClient, issuer_dir: Path, free_ports: tuple[int, int], review_api: ReviewApi
) -> None:
    review_api.may_answer = asyncio.Event()
    async with served(kube, issuer_dir, free_ports) as identity, asyncio.TaskGroup() as group:
        calls = [group.create_task(identity.certify()) for _ in range(100)]
        await eventually(lambda: review_api.under_way == 32)
        # Whoever else would come has come by the time that a call which needs no review is answered.
        await identity.refusal(token=b"")
        assert len(review_api.reviews) == 32
        review_api.may_answer.set()
    assert all(call.result().leaf_certificate for call in calls)
    assert len(review_api.reviews) == 100


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
    async with served(kube, issuer_dir, free_ports, WEFT_ACCEPT_API_TOKENS="true") as identity:
        await identity.certify()
    assert [review.get("audiences") for review in review_api.reviews] == [["identity.l5d.io"], None]


async def test_token_for_another_audience_buys_nothing_unless_api_tokens_are_accepted(
    kube: KubeClient, issuer_dir: Path, free_ports: tuple[int, int], review_api: ReviewApi
) -> None:
    review_api.refuse_audience = True
    async with served(kube, issuer_dir, free_ports) as identity:
        assert (await identity.refusal())[0] is grpc.StatusCode.INVALID_ARGUMENT
        assert 'outcome="token_wrong_audience"} 1.0' in (await identity.admin("/metrics"))[1]


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

        async def is_recorded() -> bool:
            record = json.loads(await redis.get(key) or b"{}")
            return bool(record.get("serial") == format(leaf.serial_number, "x"))

        await eventually(is_recorded)
        record = json.loads(await redis.get(key) or b"")
        assert record["pod"] == "web-0"
        assert record["not_after"] == leaf.not_valid_after_utc.isoformat()
        assert abs(await redis.expiretime(key) - leaf.not_valid_after_utc.timestamp()) <= 1
        assert await redis.keys("weft:identity:leaf:*") == [key.encode()]


async def test_certificates_are_issued_while_redis_is_away(
    kube: KubeClient, issuer_dir: Path, free_ports: tuple[int, int]
) -> None:
    async with served(kube, issuer_dir, free_ports, WEFT_REDIS_URL="redis://127.0.0.1:1/0") as identity:
        await identity.certify()
        await identity.certify()

        async def redis_is_reported_away() -> bool:
            return "weft_redis_up 0.0" in (await identity.admin("/metrics"))[1]

        await eventually(redis_is_reported_away)
