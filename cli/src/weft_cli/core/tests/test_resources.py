"""Resources on the command line: every form, and what is said about a wrong one."""

from __future__ import annotations

import pytest

from weft_cli.core.resources import ALL_KINDS, KINDS, Target, kind_from, targets_from
from weft_cli.errors import BadInput


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["deploy"], [Target("deployment")]),
        (["Deployments"], [Target("deployment")]),
        (["po/a"], [Target("pod", "a")]),
        (["po", "a", "b"], [Target("pod", "a"), Target("pod", "b")]),
        (["po/a", "svc/b"], [Target("pod", "a"), Target("service", "b")]),
        (["all"], [Target(kind) for kind in ALL_KINDS]),
    ],
)
def test_every_form_is_understood(words: list[str], expected: list[Target]) -> None:
    assert targets_from(words) == expected


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ([], "no resource"),
        (["all", "po"], "alone"),
        (["po/a", "b"], "form TYPE/NAME"),
        (["po/a", "svc/"], "form TYPE/NAME"),
        (["po", "a", "svc/b"], "after a type"),
        (["po", "a", "a"], "twice"),
        (["po/a", "pod/a"], "twice"),
        (["po/a/b"], "more than one slash"),
        (["gateway"], "unknown resource type"),
    ],
)
def test_wrong_forms_are_refused_by_what_is_wrong(words: list[str], part: str) -> None:
    with pytest.raises(BadInput, match=part):
        targets_from(words)


def test_misspelt_type_brings_a_suggestion_and_a_strange_one_the_list() -> None:
    with pytest.raises(BadInput) as close:
        kind_from("deploymnet")
    assert close.value.hint.startswith("did you mean deployment")
    with pytest.raises(BadInput) as strange:
        kind_from("xyzzy")
    assert all(kind in strange.value.hint for kind in KINDS)


def test_every_name_of_a_kind_means_that_kind() -> None:
    for kind, names in KINDS.items():
        assert {kind_from(name) for name in (kind, *names)} == {kind}
