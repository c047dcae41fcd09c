"""One namespace, certificate authority and engine for each module: the modules share nothing but the code."""

import os
from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import pytest

from .certificates import Authority
from .namespace import intercepted_namespace
from .pod import Pod

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.root)
            if find_spec("weft_engine") is None or os.geteuid() != 0:
                item.add_marker(pytest.mark.skip(reason="needs root and the built engine; run make setup"))


@pytest.fixture(scope="module")
def namespace() -> Iterator[None]:
    with intercepted_namespace():
        yield


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def pod(namespace: None, authority: Authority) -> Iterator[Pod]:
    with closing(Pod(authority)) as pod:
        yield pod
