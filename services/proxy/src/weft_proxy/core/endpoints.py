"""One backend's endpoint stream, across reconnects: which updates reach the engine, and which replace its set."""

from weft_proto.linkerd import destination_pb2
from weft_proto.weft import engine_pb2


class EndpointStream:
    """Start a new one, or call `reconnected`, for each connection of the stream."""

    __slots__ = ("_first", "_path")

    def __init__(self, path: str) -> None:
        self._path = path
        self._first = True

    def reconnected(self) -> None:
        self._first = True

    def command(self, update: destination_pb2.Update) -> engine_pb2.Command | None:
        """None for what changes nothing: a removal before anything was added, or an update of no known kind.

        A fresh stream opens with the full set, so its first `add` replaces what the engine has (wire.md 2.2).
        """
        kind = update.WhichOneof("update")
        if kind is None or (self._first and kind == "remove"):
            return None
        first, self._first = self._first, False
        return engine_pb2.Command(
            set_endpoints=engine_pb2.SetEndpoints(path=self._path, first_of_stream=first, update=update)
        )

    def refused(self, reason: str) -> engine_pb2.Command:
        return engine_pb2.Command(set_endpoints=engine_pb2.SetEndpoints(path=self._path, refusal=reason))
