"""Reviews of policy objects; what they may not say is in `weft_policy.validation`."""

from __future__ import annotations

from typing import Final

from weft_policy.validation import examine

from weft_injector.core.answer import Admitted, Answer, Refused
from weft_injector.core.json_value import JsonObject

_FORBIDDEN: Final = 403
# What Linkerd's validator of profiles answers.
_BAD_REQUEST: Final = 400


def review_policy(kind: str, obj: JsonObject) -> Answer:
    """Admit or refuse a policy object, a route or a ServiceProfile; other kinds are admitted."""
    verdict = examine(obj)
    if verdict.problems:
        return Refused(str(verdict), _BAD_REQUEST if kind == "ServiceProfile" else _FORBIDDEN)
    return Admitted(warnings=tuple(map(str, verdict.warnings)))
