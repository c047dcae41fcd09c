"""Certify with tokens that the API server issued, and reviews."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from weft_proto.linkerd import identity_pb2, identity_pb2_grpc

from tests.kubernetes.installation import Installation, Service

AUDIENCE = "--audience=identity.l5d.io"


def identity_of(account: str, namespace: str) -> str:
    return f"{account}.{namespace}.serviceaccount.identity.linkerd.cluster.local"


def csr_for(name: str) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.DNSName(name)])
    builder = x509.CertificateSigningRequestBuilder(x509.Name([])).add_extension(names, critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


async def certify(service: Service, name: str, token: str) -> Any:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{service.ports['ident-grpc']}") as channel:
        stub: Any = identity_pb2_grpc.IdentityStub(channel)
        request = identity_pb2.CertifyRequest(
            identity=name, token=token.encode(), certificate_signing_request=csr_for(name)
        )
        return await stub.Certify(request, timeout=10)


async def refusal(service: Service, name: str, token: str) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await certify(service, name, token)
    return refused.value.code()


async def test_token_of_the_api_server_buys_a_certificate(
    mesh: Installation, identity: Service, namespace: str
) -> None:
    token = mesh.token_of("default", namespace, AUDIENCE)
    answer = await certify(identity, identity_of("default", namespace), token)
    leaf = x509.load_der_x509_certificate(answer.leaf_certificate)
    issuer = x509.load_der_x509_certificate(answer.intermediate_certificates[0])
    leaf.verify_directly_issued_by(issuer)
    issuer.verify_directly_issued_by(mesh.anchor.certificate)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [identity_of("default", namespace)]
    mesh.kubectl(
        *("wait", "--for=create", "event", "--namespace", namespace, "--timeout=20s"),
        "--field-selector=reason=IssuedLeafCertificate,involvedObject.name=default",
    )


async def test_stolen_and_foreign_tokens_buy_nothing(mesh: Installation, identity: Service, namespace: str) -> None:
    mine = identity_of("default", namespace)
    mesh.kubectl("create", "serviceaccount", "thief", "--namespace", namespace)
    thief = mesh.token_of("thief", namespace, AUDIENCE)
    assert await refusal(identity, mine, thief) is grpc.StatusCode.FAILED_PRECONDITION
    for_others = mesh.token_of("default", namespace, "--audience=vault.example.com")
    assert await refusal(identity, mine, for_others) is not grpc.StatusCode.OK
    assert await refusal(identity, mine, "not.a.token") is not grpc.StatusCode.OK

    gone = mesh.token_of("default", namespace, AUDIENCE)
    mesh.kubectl("delete", "serviceaccount", "default", "--namespace", namespace)
    assert await refusal(identity, mine, gone) is not grpc.StatusCode.OK
