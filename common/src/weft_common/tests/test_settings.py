from __future__ import annotations

from datetime import timedelta
from enum import Enum
from typing import Any

import pytest
from weft_common.settings import (
    REQUIRED,
    Setting,
    SettingsError,
    boolean,
    describe_settings,
    duration,
    port,
    port_ranges,
    read_settings,
    text,
)

TABLE = (
    Setting("PORT", port, 8080, "port"),
    Setting("NAME", text, REQUIRED, "the name to use"),
    Setting("WAIT", duration, timedelta(seconds=5), "how long"),
)


def test_defaults_fill_what_is_unset_or_empty() -> None:
    assert read_settings(TABLE, {"NAME": "x", "WAIT": ""}) == {"PORT": 8080, "NAME": "x", "WAIT": timedelta(seconds=5)}


def test_every_mistake_is_reported_in_one_run() -> None:
    with pytest.raises(SettingsError) as raised:
        read_settings(TABLE, {"PORT": "http", "WAIT": "5"})
    assert list(raised.value.lines()) == [
        "PORT='http': expected a port, 0 to 65535",
        "NAME is not set: the name to use",
        "WAIT='5': expected a duration such as 10s, 250ms or 1h30m",
    ]


@pytest.mark.parametrize(
    ("value", "seconds"), [("0", 0), ("250ms", 0.25), ("1h30m", 5400), ("2d", 172800), ("1.5s", 1.5)]
)
def test_durations_add_up_their_parts(value: str, seconds: float) -> None:
    assert duration(value).total_seconds() == seconds


@pytest.mark.parametrize("value", ["5", "s", "5 s", "-1s", "5s garbage", ""])
def test_durations_without_unit_or_with_leftovers_are_refused(value: str) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        duration(value)


def test_port_ranges_include_both_ends() -> None:
    assert port_ranges("25, 587,4000-4002,") == (range(25, 26), range(587, 588), range(4000, 4003))


@pytest.mark.parametrize("value", ["0", "65536", "9-5", "a", "1-b"])
def test_port_ranges_outside_the_port_space_are_refused(value: str) -> None:
    with pytest.raises(ValueError, match="port"):
        port_ranges(value)


class Colour(Enum):
    RED = "red"


def test_defaults_are_shown_as_a_user_would_type_them() -> None:
    table: list[Setting[Any]] = [
        Setting("WEFT_A", boolean, True, "A."),
        Setting("WEFT_B", Colour, Colour.RED, "B."),
        Setting("WEFT_C", duration, timedelta(seconds=90), "C."),
    ]
    shown = describe_settings(table)
    assert "WEFT_A  (default true)" in shown
    assert "WEFT_B  (default red)" in shown
    assert "WEFT_C  (default 90s)" in shown
