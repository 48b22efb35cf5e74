import os
import pathlib

import pytest

import cairn


@pytest.fixture
def options():
    """A small store, on the engine that the other suites were told to use."""
    engine = os.environ.get("CAIRN_TEST_IO_ENGINE", "auto").upper()
    return {
        "l2_bytes_max": 32 << 20,
        "l3_bytes_max": 128 << 20,
        "device": cairn.DeviceKind.HOST,
        "io_engine": cairn.IoEngineKind[engine],
    }


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def store(path, options):
    with cairn.Store(path, **options) as opened:
        yield opened


@pytest.fixture
def source_tree():
    """The project that these tests lie in."""
    return pathlib.Path(__file__).parents[2]
