"""Which route of a ServiceProfile takes a request."""

from __future__ import annotations

from weft_policy.core.objects import Name
from weft_policy.core.profile_match import profile_route_for
from weft_policy.core.service_profiles import (
    AllOf,
    AnyOf,
    Condition,
    Method,
    Not,
    PathRegex,
    ProfileRoute,
    ServiceProfile,
    StatusRange,
)


def taken(method: str, path: str, *conditions: Condition) -> str | None:
    routes = tuple(ProfileRoute(str(place), condition) for place, condition in enumerate(conditions))
    found = profile_route_for(ServiceProfile(Name("shop", "web.shop.svc.cluster.local"), routes), method, path)
    return found.name if found else None


def test_the_first_route_that_fits_takes_the_request() -> None:
    books = AllOf((Method("GET"), PathRegex("/books/[0-9]+")))
    assert taken("GET", "/books/7", books, PathRegex(".*")) == "0"
    assert taken("POST", "/books/7", books, PathRegex(".*")) == "1"
    assert taken("POST", "/books/7", books) is None


def test_a_path_is_matched_as_a_whole() -> None:
    assert taken("GET", "/books/7/pages", PathRegex("/books/7")) is None


def test_conditions_combine() -> None:
    assert taken("PUT", "/", AnyOf((Method("GET"), Method("PUT")))) == "0"
    assert taken("PUT", "/", Not(Method("PUT"))) is None
    assert taken("GET", "/", StatusRange(500, 599)) is None


def test_a_pattern_that_cannot_be_read_takes_nothing() -> None:
    assert taken("GET", "/", PathRegex("(")) is None
