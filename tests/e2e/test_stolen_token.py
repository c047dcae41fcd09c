"""A service account token is worth a certificate only to the pod that it was given to."""

from __future__ import annotations

from base64 import b64encode

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from .conftest import Mesh, eventually

pytestmark = pytest.mark.e2e

TOKEN_FILE = "/var/run/secrets/tokens/linkerd-identity-token"
VICTIM = "traffic.bookshop.serviceaccount.identity.linkerd.cluster.local"
IDENTITY = "linkerd-identity.linkerd.serviceaccount.identity.linkerd.cluster.local"
# Certify over mesh TLS without a client certificate, as a proxy that has none yet: prints gRPC's status and message.
CERTIFY = f"""
import base64, socket, ssl, sys
from urllib.parse import unquote
import h2.config, h2.connection, h2.events
from weft_proto.linkerd.identity_pb2 import CertifyRequest
address, anchors, token, csr = sys.argv[1:]
message = CertifyRequest(identity="{VICTIM}", token=token.encode(), certificate_signing_request=base64.b64decode(csr))
body = message.SerializeToString()
tls = ssl.create_default_context(cadata=anchors)
tls.check_hostname = False
with tls.wrap_socket(socket.create_connection((address, 8080), 10), server_hostname="{IDENTITY}") as stream:
    connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    connection.initiate_connection()
    connection.send_headers(1, [
        (":method", "POST"), (":scheme", "http"), (":authority", "identity"),
        (":path", "/io.linkerd.proxy.identity.Identity/Certify"),
        ("content-type", "application/grpc"), ("te", "trailers"),
    ])
    connection.send_data(1, b"\\0" + len(body).to_bytes(4, "big") + body, end_stream=True)
    stream.sendall(connection.data_to_send())
    found = {{}}
    ended = False
    while not ended and (data := stream.recv(65536)):
        for event in connection.receive_data(data):
            found.update(getattr(event, "headers", None) or ())
            ended = ended or isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset))
        stream.sendall(connection.data_to_send())
print(found.get("grpc-status"), unquote(found.get("grpc-message", "")))
"""


def test_a_stolen_token_buys_nothing_at_another_address(mesh: Mesh) -> None:
    victim = mesh.pod("bookshop", "traffic")
    anchors = mesh.kubectl_json("get", "configmap", "-n", "linkerd", "linkerd-identity-trust-roots")["data"]
    token = mesh.exec_in("bookshop", victim, "linkerd-proxy", "cat", TOKEN_FILE).strip()

    def certify(namespace: str, pod: str, container: str) -> str:
        command = ("python", "-c", CERTIFY, _identity_address(mesh), anchors["ca-bundle.crt"], token, _request())
        return mesh.exec_in(namespace, pod, container, *command).strip()

    # From where its own proxy would ask.
    assert certify("bookshop", victim, "linkerd-proxy") == "0"

    def is_refused() -> None:
        # Identity's view of the pods may be a moment younger than the pods.
        answer = certify("legacy", mesh.pod("legacy", "legacy-client"), "client")
        assert "was sent from another pod" in answer, answer
        assert token not in answer

    eventually(is_refused, within_s=15)


def _identity_address(mesh: Mesh) -> str:
    pods = mesh.kubectl_json("get", "pods", "-n", "linkerd")["items"]
    identity = next(pod for pod in pods if pod["metadata"]["name"].startswith("linkerd-identity"))
    return str(identity["status"]["podIP"])


def _request() -> str:
    names = x509.SubjectAlternativeName([x509.DNSName(VICTIM)])
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(names, critical=False)
    return b64encode(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)).decode()
