"""Chart values and the small languages inside them."""

from __future__ import annotations

import pytest

from weft_injector.core import grammar
from weft_injector.core.overrides import CONFIG_ANNOTATIONS, INHERITED
from weft_injector.core.settings import BadValues, MeshSettings, settings_from_values


def test_empty_values_are_the_defaults() -> None:
    assert settings_from_values({}) == MeshSettings()


def test_values_reach_their_fields() -> None:
    settings = settings_from_values(
        {
            "clusterDomain": "mesh.test",
            "proxy": {
                "ports": {"admin": 4999.0},
                "opaquePorts": 5432,
                "resources": {"cpu": {"limit": "2"}, "ephemeral-storage": {"request": "1Gi"}},
                "inbound": {"server": {"http2": {"keepAliveInterval": "20s"}}},
                "tracing": {"enabled": True, "collector": {"endpoint": "otel.obs:4317"}},
            },
            "proxyInit": {"ignoreInboundPorts": "22, 100-110"},
        }
    )
    assert (settings.trust_domain, settings.admin_port, settings.opaque_ports) == ("mesh.test", 4999, "5432")
    assert (settings.cpu_limit, settings.ephemeral_storage_request) == ("2", "1Gi")
    assert settings.skip_inbound_ports == "22,100-110"
    assert settings.tuning == (("INBOUND_SERVER_HTTP2_KEEP_ALIVE_INTERVAL", "20s"),)
    assert settings.tracing is not None
    assert settings.tracing.collector_address == "otel.obs:4317"


def test_every_mistake_is_named_at_once() -> None:
    with pytest.raises(BadValues) as caught:
        settings_from_values({"clusterNetworks": "10.0.0.0/8,ten", "proxy": {"uid": "root", "await": "perhaps"}})
    assert all(path in str(caught.value) for path in ("clusterNetworks", "proxy.uid", "proxy.await"))


def test_a_value_of_the_wrong_shape_is_refused_by_path() -> None:
    with pytest.raises(BadValues, match=r"proxy.ports"):
        settings_from_values({"proxy": {"ports": [1]}})


@pytest.mark.parametrize(
    ("text", "ms"),
    [("10s", "10000ms"), ("1m30s", "90000ms"), ("1.5s", "1500ms"), ("0", "0ms"), ("250us", "0ms")],
)
def test_durations_become_whole_milliseconds(text: str, ms: str) -> None:
    assert grammar.milliseconds(text) == ms


@pytest.mark.parametrize("text", ["", "10", "10 s", "s", "1d", "--1s", "1s2"])
def test_what_is_no_go_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        grammar.duration(text)


@pytest.mark.parametrize(("text", "cores"), [("100m", 1), ("1", 1), ("1500m", 2), ("2.0", 2), ("3e0", 3), ("0", 0)])
def test_cpu_quantities_round_up_to_whole_cores(text: str, cores: int) -> None:
    assert grammar.whole_cores(text) == cores


@pytest.mark.parametrize("text", ["", "m", "1 Gi", "one", "1KiB"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="quantity"):
        grammar.quantity(text)


def test_port_lists_allow_spaces_ranges_and_a_trailing_comma() -> None:
    assert grammar.port_list(" 80, 90 - 95 ,") == "80,90-95"
    for bad in ("0", "65536", "9-8", "http"):
        with pytest.raises(ValueError):
            grammar.port_list(bad)


def test_annotation_table_has_no_duplicates_and_knows_who_inherits() -> None:
    keys = [row.key for row in CONFIG_ANNOTATIONS]
    assert len(keys) == len(set(keys)) == 50
    assert "config.linkerd.io/close-wait-timeout" not in INHERITED
    assert "config.linkerd.io/proxy-enable-native-sidecar" in INHERITED
    assert "config.beta.linkerd.io/proxy-enable-native-sidecar" not in INHERITED
