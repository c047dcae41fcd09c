"""Answers that are stored nowhere: tokens issued, tokens and permissions reviewed.

Permissions are not enforced here: RBAC objects are kept for the tools that read them, and every review says allowed.
"""

from __future__ import annotations

import time
from typing import Any

from starlette.responses import JSONResponse, Response
from weft_common.kube.resource import ObjectKey

from weft_local.apiserver.decoding import Object
from weft_local.apiserver.errors import ApiError, Cause, conflict, invalid, not_found
from weft_local.apiserver.operations import Operations
from weft_local.apiserver.requests import unknown_path
from weft_local.apiserver.tokens import API_AUDIENCE, MIN_SECONDS, BoundObject, TokenAuthority, TokenRejected, User

DEFAULT_TOKEN_S = 3600
MAX_TOKEN_S = 48 * 3600


def issue_token(operations: Operations, tokens: TokenAuthority, key: ObjectKey, body: Object) -> Response:
    """TokenRequest. Raises ApiError 404, 409, 422."""
    account = operations.get(operations.kinds["/serviceaccounts"], key)
    spec: dict[str, Any] = body.get("spec") or {}
    audiences = [str(audience) for audience in spec.get("audiences") or [API_AUDIENCE]]
    ttl_s = int(spec.get("expirationSeconds") or DEFAULT_TOKEN_S)
    if ttl_s < MIN_SECONDS:
        text = f"Invalid value: {ttl_s}: may not specify a duration less than 10 minutes"
        cause = Cause("spec.expirationSeconds", "FieldValueInvalid", text)
        raise invalid("TokenRequest", "authentication.k8s.io", key.name, (cause,))
    ttl_s = min(ttl_s, MAX_TOKEN_S)
    now_s = int(time.time())
    bound = _bound_object(operations, key.namespace, spec.get("boundObjectRef"))
    token = tokens.issue(key, account["metadata"]["uid"], audiences, now_s, ttl_s, bound)
    expires = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now_s + ttl_s))
    answer = {
        "kind": "TokenRequest",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {"name": key.name, "namespace": key.namespace, "creationTimestamp": None},
        "spec": {**spec, "audiences": audiences, "expirationSeconds": ttl_s},
        "status": {"token": token, "expirationTimestamp": expires},
    }
    return JSONResponse(answer, status_code=201)


def _bound_object(operations: Operations, namespace: str, reference: Object | None) -> BoundObject | None:
    if not reference:
        return None
    kind, name = str(reference.get("kind", "")), str(reference.get("name", ""))
    if kind not in ("Pod", "Secret"):
        text = f"cannot bind token for object of type {kind or 'unknown'}: only Pod and Secret are possible"
        raise ApiError(400, "BadRequest", text)
    uid = operations.uid_of(kind, ObjectKey(namespace, name))
    plural = f"{kind.lower()}s"
    if uid is None:
        raise not_found(plural, "", name)
    if reference.get("uid") not in (None, "", uid):
        raise conflict(plural, "", name, f"the UID in the bound object reference ({reference['uid']}) does not match")
    return BoundObject(kind, name, uid)


def review(tokens: TokenAuthority, user: User, group: str, version: str, plural: str, body: Object) -> Response:
    """Token and access reviews. Raises ApiError 404 for others."""
    spec: dict[str, Any] = body.get("spec") or {}
    match plural:
        case "tokenreviews":
            status = _token_status(tokens, spec)
        case "selfsubjectreviews":
            status = {"userInfo": user.as_json()}
        case "selfsubjectrulesreviews":
            everything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
            anywhere = {"verbs": ["*"], "nonResourceURLs": ["*"]}
            status = {"resourceRules": [everything], "nonResourceRules": [anywhere], "incomplete": False}
        case "selfsubjectaccessreviews" | "subjectaccessreviews" | "localsubjectaccessreviews":
            status = {"allowed": True, "reason": "permissions are not enforced in a local cluster"}
        case _:
            raise unknown_path()
    answer = {"metadata": {}, **body, "apiVersion": f"{group}/{version}", "status": status}
    return JSONResponse(answer, status_code=201)


def _token_status(tokens: TokenAuthority, spec: Object) -> Object:
    audiences = [str(audience) for audience in spec.get("audiences") or [API_AUDIENCE]]
    try:
        found, matching = tokens.review(str(spec.get("token", "")), audiences)
    except TokenRejected as error:
        return {"authenticated": False, "user": {}, "error": str(error)}
    return {"authenticated": True, "user": found.as_json(), "audiences": matching}
