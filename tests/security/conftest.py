"""Attackers' means: a real server that waits a second only, and the pages without a server."""

from collections.abc import Iterator

import pytest

from tests.e2e.conftest import Server, start_server  # noqa: F401 - a fixture
from tests.integration.conftest import api, make_api, problem  # noqa: F401 - fixtures
from tests.integration.pages.conftest import (  # noqa: F401 - fixtures
    admin,
    app,
    clock,
    manager,
    password,
    quick_passwords,
    read_form,
    site,
    viewer,
)


@pytest.fixture(scope="session")
def impatient(tmp_path_factory) -> Iterator[Server]:
    """A server that ends heads and bodies after a second."""
    folder = tmp_path_factory.mktemp("impatient")
    running = Server(folder, BANDITS_REQUEST_SECONDS="1")
    yield running
    assert running.stop() == 0, running.log.read_text()
