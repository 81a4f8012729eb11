"""The names that the package offers."""

import subprocess
import sys

import pytest

import bandits
from bandits.client import AsyncClient, Client
from bandits.engine import Engine
from bandits.errors import BanditsError
from bandits.experiment import Experiment
from tests.patience import LIMIT_SECONDS


def test_package_offers_engine_experiment_clients_and_errors() -> None:
    offered = {name: getattr(bandits, name) for name in bandits.__all__}
    assert offered == {
        "AsyncClient": AsyncClient,
        "BanditsError": BanditsError,
        "Client": Client,
        "Engine": Engine,
        "Experiment": Experiment,
    }
    with pytest.raises(AttributeError, match="no attribute 'engines'"):
        _ = bandits.engines


def test_import_of_the_package_loads_neither_engine_nor_client() -> None:
    code = "import sys, bandits; print([m for m in ('numpy', 'httpx') if m in sys.modules])"
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=LIMIT_SECONDS
    )
    assert done.stdout == "[]\n"
