"""AdmissionReview on the wire, versions v1 and v1beta1, which have the same shape."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any, Final

from weft_injector.core.answer import Admitted, Refused
from weft_injector.core.json_value import Json, JsonObject, Malformed, object_at, text_at

VERSIONS: Final = frozenset({"admission.k8s.io/v1", "admission.k8s.io/v1beta1"})


class NotAReview(ValueError):
    """The body is not an admission review."""


@dataclass(frozen=True, slots=True)
class ReviewRequest:
    """api_version: answered in kind. obj: the object to be written."""

    api_version: str
    uid: str
    kind: str
    namespace: str
    dry_run: bool
    obj: JsonObject


def decode_review(body: bytes) -> ReviewRequest:
    """Raises NotAReview."""
    try:
        review = json.loads(body)
        if not isinstance(review, dict):
            raise NotAReview("expected a JSON object")
        request = object_at(review, "request")
        uid = text_at(request, "uid", "request")
        if review.get("kind") != "AdmissionReview" or review.get("apiVersion") not in VERSIONS or not uid:
            raise NotAReview(f"expected an AdmissionReview of {' or '.join(sorted(VERSIONS))} with a request")
        return ReviewRequest(
            api_version=review["apiVersion"],
            uid=uid,
            kind=text_at(object_at(request, "kind", "request"), "kind", "request.kind"),
            namespace=text_at(request, "namespace", "request"),
            dry_run=request.get("dryRun") is True,
            obj=object_at(request, "object", "request"),
        )
    except (UnicodeDecodeError, json.JSONDecodeError, Malformed) as error:
        raise NotAReview(str(error)) from error


def allowed(request: ReviewRequest, answer: Admitted) -> JsonObject:
    """The object may be written, with these changes."""
    response: dict[str, Json] = {"uid": request.uid, "allowed": True}
    if answer.ops:
        patch = json.dumps([op.as_json() for op in answer.ops], separators=(",", ":"))
        response |= {"patchType": "JSONPatch", "patch": base64.b64encode(patch.encode()).decode()}
    if answer.warnings:
        response["warnings"] = answer.warnings
    return _answer(request, response)


def denied(request: ReviewRequest, answer: Refused) -> JsonObject:
    """The object must not be written."""
    status: JsonObject = {"message": answer.message, "code": answer.status}
    return _answer(request, {"uid": request.uid, "allowed": False, "status": status})


def _answer(request: ReviewRequest, response: dict[str, Json]) -> dict[str, Any]:
    return {"apiVersion": request.api_version, "kind": "AdmissionReview", "response": response}
