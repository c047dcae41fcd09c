from weft_metrics_api.core.pace import AFFORDABLE_PROXIES, ENOUGH_ANSWERS, PATIENCE_ROUNDS, QUICK_INTERVAL_S, Pace

INTERVAL_S = 5.0


def rounds(pace: Pace, count: int, asked: set[str], answered: set[str]) -> float:
    for _ in range(count):
        pace.round(asked, answered)
    return pace.pause_s(0.01)


def test_rounds_follow_quickly_until_a_new_proxy_has_numbers() -> None:
    pace = Pace(INTERVAL_S)
    assert rounds(pace, ENOUGH_ANSWERS - 1, {"a"}, {"a"}) == QUICK_INTERVAL_S
    assert rounds(pace, 1, {"a"}, {"a"}) == INTERVAL_S
    assert rounds(pace, 1, {"a", "b"}, {"a", "b"}) == QUICK_INTERVAL_S


def test_proxy_that_never_answers_does_not_keep_the_pace_up() -> None:
    pace = Pace(INTERVAL_S)
    assert rounds(pace, PATIENCE_ROUNDS - 1, {"a"}, set()) == QUICK_INTERVAL_S
    assert rounds(pace, 1, {"a"}, set()) == INTERVAL_S


def test_proxy_that_has_gone_is_waited_for_no_longer() -> None:
    pace = Pace(INTERVAL_S)
    pace.round({"a"}, set())
    assert rounds(pace, 1, set(), set()) == INTERVAL_S


def test_large_mesh_keeps_to_the_interval() -> None:
    pace = Pace(INTERVAL_S)
    assert rounds(pace, 1, {f"p{number}" for number in range(AFFORDABLE_PROXIES + 1)}, set()) == INTERVAL_S


def test_interval_shorter_than_the_quick_one_holds() -> None:
    pace = Pace(0.2)
    assert rounds(pace, 1, {"a"}, set()) == 0.2


def test_round_longer_than_the_interval_is_followed_at_once() -> None:
    pace = Pace(INTERVAL_S)
    assert pace.pause_s(7.0) == 7.0
