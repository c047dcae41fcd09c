import pytest
from weft_proxy.core.log_filter import DEFAULT_FILTER, Level, LogFilter


def test_default_filter_shows_our_information_and_hides_that_of_libraries() -> None:
    log_filter = LogFilter.parse(DEFAULT_FILTER)
    assert log_filter.passes("weft_proxy::identity", Level.INFO)
    assert not log_filter.passes("weft_proxy::identity", Level.DEBUG)
    assert not log_filter.passes("hyper::client", Level.INFO)
    assert not log_filter.passes("hickory_resolver", Level.WARN)


def test_longest_target_wins() -> None:
    log_filter = LogFilter.parse("info,linkerd=warn,weft_proxy::discovery=debug")
    assert log_filter.level_for("weft_proxy::discovery") is Level.DEBUG
    assert log_filter.level_for("weft_proxy::identity") is Level.WARN
    assert log_filter.level_for("other") is Level.INFO


def test_off_hides_errors() -> None:
    assert not LogFilter.parse("off").passes("weft_proxy", Level.ERROR)


def test_span_conditions_of_charts_are_accepted_and_change_nothing() -> None:
    text = "warn,linkerd=info,hickory=error,linkerd_proxy_http::client[{headers, x}]=off,[{headers}]=off"
    assert LogFilter.parse(text).level_for("weft_proxy") is Level.INFO


def test_bare_target_passes_everything_of_it_and_nothing_else() -> None:
    log_filter = LogFilter.parse("weft_net")
    assert log_filter.passes("weft_net::inbound", Level.TRACE)
    assert not log_filter.passes("weft_proxy", Level.ERROR)


@pytest.mark.parametrize("text", ["linkerd=loud", "a b=info", "x[{y=info", "=", "a=b=c"])
def test_unreadable_filter_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        LogFilter.parse(text)
