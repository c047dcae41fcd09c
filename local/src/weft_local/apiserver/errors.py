"""Refusals of the API, each with the HTTP status and reason Kubernetes uses for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Cause:
    """One wrong field. field: its path, such as spec.containers[0].image; reason: FieldValueRequired and its kin."""

    field: str
    reason: str
    message: str


@dataclass(eq=False)
class ApiError(Exception):
    """A refusal. details: kind, group and name of the object it is about, as far as known."""

    status: int
    reason: str
    message: str
    causes: tuple[Cause, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        """The Status object of the answer."""
        details = dict(self.details)
        if self.causes:
            details["causes"] = [
                {"field": cause.field, "reason": cause.reason, "message": cause.message} for cause in self.causes
            ]
        body: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.status,
        }
        return {**body, "details": details} if details else body


def not_found(plural: str, group: str, name: str) -> ApiError:
    shown = f"{plural}.{group}" if group else plural
    return ApiError(
        404, "NotFound", f'{shown} "{name}" not found', details={"name": name, "group": group, "kind": plural}
    )


def already_exists(plural: str, group: str, name: str) -> ApiError:
    shown = f"{plural}.{group}" if group else plural
    return ApiError(
        409, "AlreadyExists", f'{shown} "{name}" already exists', details={"name": name, "group": group, "kind": plural}
    )


def conflict(plural: str, group: str, name: str, why: str) -> ApiError:
    shown = f"{plural}.{group}" if group else plural
    return ApiError(
        409,
        "Conflict",
        f'Operation cannot be fulfilled on {shown} "{name}": {why}',
        details={"name": name, "group": group, "kind": plural},
    )


def invalid(kind: str, group: str, name: str, causes: tuple[Cause, ...]) -> ApiError:
    shown = f"{kind}.{group}" if group else kind
    listed = "; ".join(f"{cause.field}: {cause.message}" for cause in causes)
    text = listed if len(causes) == 1 else f"[{listed}]"
    return ApiError(
        422,
        "Invalid",
        f'{shown} "{name}" is invalid: {text}',
        causes,
        details={"name": name, "group": group, "kind": kind},
    )


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def expired(message: str = "too old resource version") -> ApiError:
    return ApiError(410, "Expired", message)
