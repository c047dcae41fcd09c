"""What the end of a control stream means: try again, or an answer for good (wire.md 2.2).

Codes are gRPC's numbers, so that this table needs no gRPC.
"""

from enum import Enum, auto

OK = 0
INVALID_ARGUMENT = 3
NOT_FOUND = 5
FAILED_PRECONDITION = 9
UNIMPLEMENTED = 12


class End(Enum):
    RETRY = auto()
    ABSENT = auto()
    """The service knows nothing of it; carry on without."""
    REFUSED = auto()
    """The service will never answer; what depends on it fails."""


class Method(Enum):
    GET = "Destination.Get"
    GET_PROFILE = "Destination.GetProfile"
    WATCH_OUTBOUND = "OutboundPolicies.Watch"
    WATCH_PORT = "InboundServerPolicies.WatchPort"


_ENDS: dict[Method, dict[int, End]] = {
    Method.GET: {INVALID_ARGUMENT: End.REFUSED, FAILED_PRECONDITION: End.REFUSED},
    Method.GET_PROFILE: {INVALID_ARGUMENT: End.ABSENT, FAILED_PRECONDITION: End.ABSENT},
    Method.WATCH_OUTBOUND: {
        INVALID_ARGUMENT: End.REFUSED,
        FAILED_PRECONDITION: End.REFUSED,
        NOT_FOUND: End.ABSENT,
        UNIMPLEMENTED: End.ABSENT,
    },
    # The policy in force, be it the default, stays in force.
    Method.WATCH_PORT: {INVALID_ARGUMENT: End.ABSENT, FAILED_PRECONDITION: End.ABSENT},
}


def end_of_stream(method: Method, code: int) -> End:
    """code: gRPC status; OK, too, means reconnect, because servers drain by ending streams."""
    return _ENDS[method].get(code, End.RETRY)
