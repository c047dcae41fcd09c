"""What the end of a control stream means: try again, or an answer for good (wire.md 2.2).

Codes are gRPC's numbers, so that this table needs no gRPC.
"""

from enum import Enum, auto

OK = 0
UNKNOWN = 2
INVALID_ARGUMENT = 3
NOT_FOUND = 5
FAILED_PRECONDITION = 9
UNIMPLEMENTED = 12


class End(Enum):
    RETRY = auto()
    MISSING = auto()
    """The service knows nothing of it now; carry on without, and try again."""
    ABSENT = auto()
    """The service knows nothing of it; carry on without."""
    REFUSED = auto()
    """The service will never answer; what depends on it fails."""


class Method(Enum):
    GET = "Destination.Get"
    GET_PROFILE = "Destination.GetProfile"
    WATCH_OUTBOUND = "OutboundPolicies.Watch"
    WATCH_OUTBOUND_NAME = "OutboundPolicies.Watch by name"
    WATCH_PORT = "InboundServerPolicies.WatchPort"


_ENDS: dict[Method, dict[int, End]] = {
    Method.GET: {INVALID_ARGUMENT: End.REFUSED, FAILED_PRECONDITION: End.REFUSED},
    Method.GET_PROFILE: {
        INVALID_ARGUMENT: End.ABSENT,
        FAILED_PRECONDITION: End.ABSENT,
        # A missing Service, a missing pod (wire.md 2.5): clients that waited for them would hear nothing.
        UNKNOWN: End.MISSING,
        NOT_FOUND: End.MISSING,
    },
    Method.WATCH_OUTBOUND: {
        INVALID_ARGUMENT: End.REFUSED,
        FAILED_PRECONDITION: End.REFUSED,
        NOT_FOUND: End.ABSENT,
        UNIMPLEMENTED: End.ABSENT,
    },
    # Final for addresses alone: the Service of a name may yet be created.
    Method.WATCH_OUTBOUND_NAME: {
        INVALID_ARGUMENT: End.REFUSED,
        FAILED_PRECONDITION: End.REFUSED,
        NOT_FOUND: End.MISSING,
        UNIMPLEMENTED: End.ABSENT,
    },
    # The policy in force, be it the default, stays in force.
    Method.WATCH_PORT: {INVALID_ARGUMENT: End.ABSENT, FAILED_PRECONDITION: End.ABSENT},
}


def end_of_stream(method: Method, code: int) -> End:
    """code: gRPC status; OK, too, means reconnect, because servers drain by ending streams."""
    return _ENDS[method].get(code, End.RETRY)
