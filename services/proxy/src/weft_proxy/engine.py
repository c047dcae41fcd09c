"""The engine behind its port: the only module that imports `weft_engine`. Messages become bytes here, nowhere else."""

import weft_engine
from weft_proto.weft import decision_pb2, engine_pb2

from weft_proxy.ports import EngineFault, LeafRejected

VERSION: str = weft_engine.VERSION


class NativeEngine:
    """`ports.Engine` on the compiled engine."""

    def __init__(self, settings: engine_pb2.Settings) -> None:
        try:
            self._engine = weft_engine.Engine(settings.SerializeToString())
        except ValueError as error:
            raise EngineFault(str(error)) from error

    def start(self) -> None:
        try:
            self._engine.start()
        except (OSError, RuntimeError, ValueError) as error:
            raise EngineFault(str(error)) from error

    def event_fd(self) -> int:
        return self._engine.event_fd()

    def events(self) -> list[engine_pb2.Event]:
        return [engine_pb2.Event.FromString(event) for event in self._engine.drain_events()]

    def apply(self, command: engine_pb2.Command) -> None:
        try:
            self._engine.apply(command.SerializeToString())
        except (OSError, RuntimeError, ValueError) as error:
            raise EngineFault(str(error)) from error

    def metrics(self) -> bytes:
        return self._engine.metrics()

    def decisions(self, asked: decision_pb2.ListDecisions) -> decision_pb2.DecisionList:
        return decision_pb2.DecisionList.FromString(self._engine.decisions(asked.SerializeToString()))

    def stop(self) -> None:
        self._engine.stop()


class NativeCryptography:
    """`ports.Cryptography` on the compiled engine."""

    def generate_key_and_csr(self, name: str) -> tuple[bytes, bytes]:
        return weft_engine.generate_key_and_csr(name)

    def verify_leaf(self, leaf: bytes, intermediates: list[bytes], anchors_pem: str, name: str) -> None:
        try:
            weft_engine.verify_leaf(leaf, intermediates, anchors_pem, name)
        except ValueError as error:
            raise LeafRejected(str(error)) from error
