"""What the shells need from the engine. `engine` provides it; tests provide faults that the real one cannot make."""

from typing import Protocol

from weft_proto.weft import decision_pb2, engine_pb2


class EngineFault(Exception):
    """The engine refused a command or could not start; the text says why."""


class LeafRejected(Exception):
    """A certificate does not prove our identity to our trust anchors."""


class Engine(Protocol):
    def start(self) -> None:
        """Open the admin listener and the control tunnels. Raises EngineFault."""

    def event_fd(self) -> int:
        """Readable while events wait."""

    def events(self) -> list[engine_pb2.Event]:
        """Take what waits, oldest first."""

    def apply(self, command: engine_pb2.Command) -> None:
        """Raises EngineFault when the engine cannot use the command; its state is then unchanged."""

    def metrics(self) -> bytes:
        """Exposition text without the closing `# EOF`."""

    def decisions(self, asked: decision_pb2.ListDecisions) -> decision_pb2.DecisionList:
        """Kept decision records, newest first."""

    def stop(self) -> None: ...


class Cryptography(Protocol):
    """Keys and certificates, done by the engine's TLS library so that no second one is loaded."""

    def generate_key_and_csr(self, name: str) -> tuple[bytes, bytes]:
        """PKCS#8 DER and CSR DER: ECDSA P-256, CN and one DNS SAN equal to name."""

    def verify_leaf(self, leaf: bytes, intermediates: list[bytes], anchors_pem: str, name: str) -> None:
        """Raises LeafRejected."""
