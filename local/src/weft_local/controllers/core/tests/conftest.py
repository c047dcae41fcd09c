from __future__ import annotations

import pytest

from weft_local.controllers.core.tests.objects_for_tests import Cluster


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()
