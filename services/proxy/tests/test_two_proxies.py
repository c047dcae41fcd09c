"""Two real proxies in two network namespaces, intercepted by real iptables rules, over mutual TLS.

Each namespace is a pod: its own control plane on loopback (`e2e/plane.py`), the proxy, and on one side an application.
"""

import contextlib
import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(find_spec("weft_engine") is None, reason="weft_engine is not installed; run make setup"),
]

PLANE = Path(__file__).parent / "e2e" / "plane.py"
PROXY_GID = 2103
"""The rules let the proxy's group pass; a group needs no access to this checkout, as another user would."""
CLIENT = "client.shop.serviceaccount.identity.linkerd.cluster.local"
SERVER = "web.shop.serviceaccount.identity.linkerd.cluster.local"
APP = """
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        asked = "traceparent" if self.path == "/trace" else "l5d-client-id"
        body = (self.headers.get(asked) or "nobody").encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
server = http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Handler)
print("listening", flush=True)
server.serve_forever()
"""
GET = """
import sys, urllib.request, urllib.error
try:
    with urllib.request.urlopen(urllib.request.Request(sys.argv[1]), timeout=10) as response:
        print(response.status); print(response.read().decode())
except urllib.error.HTTPError as error:
    print(error.code); print(error.headers.get("l5d-proxy-error", ""))
"""


COLLECTOR_PORT = 4317
# Prints "<trace id> <kind> <status code>" for each span it is given.
COLLECTOR = """
import sys
from concurrent.futures import ThreadPoolExecutor
import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb, trace_service_pb2_grpc as rpc
class Collector(rpc.TraceServiceServicer):
    def Export(self, request, context):
        for span in request.resource_spans[0].scope_spans[0].spans:
            status = [a.value.int_value for a in span.attributes if a.key == "http.response.status_code"]
            print(span.trace_id.hex(), span.kind, *status, flush=True)
        return pb.ExportTraceServiceResponse()
server = grpc.server(ThreadPoolExecutor(1))
rpc.add_TraceServiceServicer_to_server(Collector(), server)
server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
server.start()
print("ready", flush=True)
server.wait_for_termination()
"""
# Prints "ready" once the tap is on or refused, then each event as JSON, or the status that refused it.
TAP = """
import sys
import grpc
from google.protobuf.json_format import MessageToJson
from weft_proto.linkerd import tap_pb2
from weft_proto.linkerd.tap_pb2_grpc import TapStub
match = tap_pb2.ObserveRequest.Match
wanted = match(http=match.Http(path=match.Http.StringMatch(prefix="/tapped")))
request = tap_pb2.ObserveRequest(limit=int(sys.argv[2]), match=wanted)
request.extract.http.headers.SetInParent()
with grpc.insecure_channel(sys.argv[1], options=[("grpc.enable_http_proxy", 0)]) as channel:
    try:
        events = TapStub(channel).Observe(request)
        events.initial_metadata()
        print("ready", flush=True)
        for event in events:
            print(MessageToJson(event, indent=None), flush=True)
    except grpc.RpcError as error:
        print(error.code().name, flush=True)
"""


@dataclass(frozen=True)
class Reply:
    status: int
    body: str


class Pod:
    """A namespace with an address on the bridge, and what runs in it."""

    def __init__(self, name: str, ip: str, stack: contextlib.ExitStack, folder: Path) -> None:
        self.name = name
        self.ip = ip
        self._stack = stack
        self._folder = folder

    def spawn(
        self, *command: str, group: int | None = None, env: dict[str, str] | None = None
    ) -> subprocess.Popen[str]:
        log = self._stack.enter_context((self._folder / f"{self.name}-{uuid4().hex[:6]}.log").open("w"))
        process = subprocess.Popen(
            ["ip", "netns", "exec", self.name, *command],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            group=group,
            env=env,
        )
        self._stack.callback(self._end, process)
        return process

    @staticmethod
    def _end(process: subprocess.Popen[str]) -> None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()

    def run(self, *command: str) -> str:
        done = subprocess.run(
            ["ip", "netns", "exec", self.name, *command], capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def get(self, url: str) -> Reply:
        status, _, body = self.run(sys.executable, "-c", GET, url).partition("\n")
        return Reply(int(status), body.strip())

    def start_proxy(self, identity: str, endpoint_ip: str, anchors: str) -> subprocess.Popen[str]:
        plane = self.spawn(sys.executable, str(PLANE), str(self._folder), endpoint_ip, CLIENT)
        assert plane.stdout is not None
        port = plane.stdout.readline().strip()
        assert port, "the control plane did not start"
        self.run(
            sys.executable, "-m", "weft_proxy.init", "--ipv6=false", f"--proxy-gid={PROXY_GID}",
            "--inbound-ports-to-ignore=4190,4191",
        )  # fmt: skip
        settings = {
            "IDENTITY_SVC_ADDR": f"localhost.:{port}",
            "DESTINATION_SVC_ADDR": f"localhost.:{port}",
            "POLICY_SVC_ADDR": f"localhost.:{port}",
            "POLICY_WORKLOAD": json.dumps({"ns": "shop", "pod": self.name}),
            "DESTINATION_PROFILE_NETWORKS": "10.0.0.0/8",
            "IDENTITY_DIR": str(self._folder / self.name),
            "IDENTITY_TOKEN_FILE": str(self._folder / "token"),
            "IDENTITY_TRUST_ANCHORS": anchors,
            "IDENTITY_LOCAL_NAME": identity,
            "INBOUND_IPS": self.ip,
            "INBOUND_PORTS": "8080",
            "ADMIN_LISTEN_ADDR": "0.0.0.0:4191",
            "SHUTDOWN_GRACE_PERIOD": "5s",
            "TAP_SVC_NAME": CLIENT,
            "ACCESS_LOG": "json",
            "TRACE_COLLECTOR_SVC_ADDR": f"localhost.:{COLLECTOR_PORT}",
        }
        env = {f"LINKERD2_PROXY_{k}": v for k, v in settings.items()}
        proxy = self.spawn(sys.executable, "-m", "weft_proxy", group=PROXY_GID, env=env)
        self.run(sys.executable, "-m", "weft_proxy.await_ready", "--timeout=20s")
        return proxy

    def decisions(self, query: str = "") -> list[dict[str, Any]]:
        """Of the proxy in this pod, newest first."""
        found = json.loads(self.get(f"http://127.0.0.1:4191/decisions?{query}").body)
        decisions: list[dict[str, Any]] = found.get("decisions", [])
        return decisions

    def log(self) -> str:
        """Everything that ran in this pod wrote to stderr."""
        return "".join(path.read_text() for path in sorted(self._folder.glob(f"{self.name}-*.log")))

    def metrics(self) -> str:
        return self.run(
            sys.executable,
            "-c",
            "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:4191/metrics').read().decode())",
        )


@dataclass(frozen=True)
class Pair:
    client: Pod
    server: Pod
    stranger: Pod
    server_proxy: subprocess.Popen[str]
    client_proxy: subprocess.Popen[str]
    collectors: list[subprocess.Popen[str]]


def make_authority(folder: Path) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "root.linkerd.cluster.local")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(Encoding.PEM)
    (folder / "ca.crt").write_bytes(pem)
    (folder / "ca.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (folder / "token").write_text("any")
    return pem.decode()


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    tag = uuid4().hex[:5]
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="weft-two-proxies-"))
        stack.callback(shutil.rmtree, folder)
        switch = f"wtp-{tag}-sw"
        ip("netns", "add", switch)
        stack.callback(ip, "netns", "del", switch)
        ip("-n", switch, "link", "add", "br0", "type", "bridge")
        ip("-n", switch, "link", "set", "br0", "up")
        pods = []
        collectors: list[subprocess.Popen[str]] = []
        for number, role in ((2, "client"), (3, "server"), (4, "stranger")):
            name, address = f"wtp-{tag}-{role}", f"10.211.7.{number}"
            ip("netns", "add", name)
            stack.callback(ip, "netns", "del", name)
            ip("-n", switch, "link", "add", role, "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("-n", switch, "link", "set", role, "master", "br0", "up")
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            pods.append(Pod(name, address, stack, folder))
        client, server, stranger = pods
        anchors = make_authority(folder)
        app = server.spawn(sys.executable, "-c", APP)
        assert app.stdout is not None
        assert app.stdout.readline() == "listening\n"
        for pod in (client, server):
            collector = pod.spawn(sys.executable, "-c", COLLECTOR, str(COLLECTOR_PORT))
            assert collector.stdout is not None
            assert collector.stdout.readline() == "ready\n"
            collectors.append(collector)
        server_proxy = server.start_proxy(SERVER, server.ip, anchors)
        client_proxy = client.start_proxy(CLIENT, server.ip, anchors)
        yield Pair(client, server, stranger, server_proxy, client_proxy, collectors)


def test_meshed_request_arrives_with_the_clients_identity(pair: Pair) -> None:
    assert pair.client.get(f"http://{pair.server.ip}:8080/") == Reply(200, CLIENT)


def test_both_sides_count_the_request_as_mutual_tls(pair: Pair) -> None:
    assert pair.client.get(f"http://{pair.server.ip}:8080/").status == 200
    inbound = [line for line in pair.server.metrics().splitlines() if line.startswith("request_total{")]
    outbound = [line for line in pair.client.metrics().splitlines() if line.startswith("request_total{")]
    assert [line for line in inbound if 'tls="true"' in line and f'client_id="{CLIENT}"' in line]
    assert [line for line in outbound if 'tls="true"' in line and f'server_id="{SERVER}"' in line]


def test_request_from_outside_the_mesh_is_denied(pair: Pair) -> None:
    assert pair.stranger.get(f"http://{pair.server.ip}:8080/").status == 403


def test_metrics_hold_both_halves_and_end_properly(pair: Pair) -> None:
    text = pair.server.metrics()
    assert re.search(r'^control_identity_cert_refreshes_total\{result="ok"\} [1-9]', text, re.MULTILINE)
    assert "process_start_time_seconds" in text
    assert text.rstrip().endswith("# EOF")


def test_private_admin_paths_refuse_the_network(pair: Pair) -> None:
    assert pair.stranger.get(f"http://{pair.server.ip}:4191/ready").status == 200
    assert pair.stranger.get(f"http://{pair.server.ip}:4191/env.json").status == 403


def test_no_payload_travels_in_clear(pair: Pair) -> None:
    """Runs before the drain; reads what crosses the server's interface while a marked request is made."""
    capture = pair.server.spawn(sys.executable, "-c", CAPTURE, "marker-in-the-clear")
    assert capture.stdout is not None
    assert capture.stdout.readline() == "ready\n"
    assert pair.client.get(f"http://{pair.server.ip}:8080/marker-in-the-clear").status == 200
    capture.send_signal(signal.SIGINT)
    packets, hits = map(int, capture.stdout.readline().split())
    assert packets > 0
    assert hits == 0


CAPTURE = """
import signal, socket, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(3))
tap.bind(("eth0", 0))
packets = hits = 0
print("ready", flush=True)
try:
    while True:
        data = tap.recv(65536)
        packets += 1
        hits += sys.argv[1].encode() in data
except KeyboardInterrupt:
    print(packets, hits, flush=True)
"""


def lines_of(process: subprocess.Popen[str], count: int) -> list[str]:
    assert process.stdout is not None
    return [process.stdout.readline().strip() for _ in range(count)]


def test_tap_shows_a_request_from_its_start_to_its_end_and_then_stops(pair: Pair) -> None:
    tap = pair.server.spawn(sys.executable, "-c", TAP, "127.0.0.1:4190", "1")
    assert lines_of(tap, 1) == ["ready"]
    assert pair.client.get(f"http://{pair.server.ip}:8080/other").status == 200
    assert pair.client.get(f"http://{pair.server.ip}:8080/tapped?secret=1").status == 200
    init, answer, end = map(json.loads, lines_of(tap, 3))
    assert tap.wait(20) == 0, "the stream ends after the one request it was to show"
    assert init["proxyDirection"] == "INBOUND"
    assert init["sourceMeta"]["labels"] == {"tls": "true", "client_id": CLIENT}
    assert init["http"]["requestInit"]["path"] == "/tapped"
    names = [header["name"] for header in init["http"]["requestInit"]["headers"]["headers"]]
    assert names[:4] == [":method", ":scheme", ":authority", ":path"]
    assert answer["http"]["responseInit"]["httpStatus"] == 200
    assert end["http"]["responseEnd"]["responseBytes"] == str(len(CLIENT))
    assert init["http"]["requestInit"]["id"] == end["http"]["responseEnd"]["id"]


def test_tap_outbound_names_the_endpoint(pair: Pair) -> None:
    tap = pair.client.spawn(sys.executable, "-c", TAP, "127.0.0.1:4190", "1")
    assert lines_of(tap, 1) == ["ready"]
    assert pair.client.get(f"http://{pair.server.ip}:8080/tapped").status == 200
    init = json.loads(lines_of(tap, 1)[0])
    labels = init["destinationMeta"]["labels"]
    assert (init["proxyDirection"], labels["deployment"], labels["server_id"]) == ("OUTBOUND", "web", SERVER)


def test_tap_refuses_everybody_but_its_client(pair: Pair) -> None:
    tap = pair.stranger.spawn(sys.executable, "-c", TAP, f"{pair.server.ip}:4190", "1")
    assert lines_of(tap, 2)[-1] == "UNAUTHENTICATED"


def test_a_tap_without_a_limit_is_an_invalid_argument(pair: Pair) -> None:
    tap = pair.server.spawn(sys.executable, "-c", TAP, "127.0.0.1:4190", "0")
    assert lines_of(tap, 2)[-1] == "INVALID_ARGUMENT"


def test_a_denied_request_leaves_a_record_that_says_why(pair: Pair) -> None:
    assert pair.stranger.get(f"http://{pair.server.ip}:8080/denied").status == 403
    found = pair.server.decisions("failures")[0]
    assert (found["path"], found["http_status"], found["closed_by"]) == ("/denied", 403, "PROXY")
    assert found["client_tls"] == {"tls": "no_identity", "no_tls_reason": "no_tls_from_remote"}
    assert found["parent"]["resource"]["name"] == "web-http"
    assert "authorization" not in found
    assert found["reason"] == "client not authorized"
    assert pair.stranger.get(f"http://{pair.server.ip}:4191/decisions").status == 403


def test_a_port_without_a_server_leaves_a_record_on_both_sides(pair: Pair) -> None:
    assert pair.client.get(f"http://{pair.server.ip}:8081/nobody").status >= 500
    there = next(found for found in pair.server.decisions("failures") if found["path"] == "/nobody")
    assert (there["authorization"], there["closed_by"]) == ({"default": "all-unauthenticated"}, "PROXY")
    here = next(found for found in pair.client.decisions("failures") if found["path"] == "/nobody")
    assert here["tries"][0]["labels"]["deployment"] == "web"
    assert here["tries"][0]["server_id"] == SERVER
    assert here["protocol"] == "http/1"


def test_every_inbound_request_has_a_line_in_the_access_log(pair: Pair) -> None:
    assert pair.client.get(f"http://{pair.server.ip}:8080/logged").status == 200
    # The admin port's answers come through the same queue as the lines: after one, the line is written.
    pair.server.decisions()
    lines = [json.loads(line) for line in pair.server.log().splitlines() if '"uri":"/logged"' in line]
    (line,) = lines
    assert (line["client.id"], line["method"], line["uri"], line["status"]) == (CLIENT, "GET", "/logged", 200)
    assert 0 < int(line["processing_ns"]) <= int(line["total_ns"])


def test_a_sampled_trace_gets_two_spans_at_each_proxy_and_reaches_the_application(pair: Pair) -> None:
    trace, span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    script = GET.replace(
        "Request(sys.argv[1])", f"Request(sys.argv[1], headers={{'traceparent': '00-{trace}-{span}-01'}})"
    )
    seen = pair.client.run(sys.executable, "-c", script, f"http://{pair.server.ip}:8080/trace").splitlines()[1]
    assert seen.startswith(f"00-{trace}-")
    assert span not in seen
    for collector in pair.collectors:
        assert sorted(lines_of(collector, 2)) == [f"{trace} 2 200", f"{trace} 3 200"]


def test_sigterm_drains_and_exits_cleanly(pair: Pair) -> None:
    pair.client_proxy.send_signal(signal.SIGTERM)
    assert pair.client_proxy.wait(20) == 0
