"""A board behind ssh, an emulated Arm userland, and small int8 networks with their outputs on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from boards import Board, Network, make_network, start_board, stop_board, visit

from edgec.pipeline.core.errors import EdgecError
from edgec.targets.devices.cores import AARCH64, Machine
from edgec.targets.devices.userland import set_up

CANNOT_SET_UP = ("missing-apt", "no-mirror", "download-failed", "missing-pip", "missing-qemu")


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    """Convolution, depthwise convolution, pool, Gemm: enough for every question of transport."""
    from tiny import TINY_PX, tiny_network

    return make_network(tiny_network(batch=1), TINY_PX, tmp_path_factory.mktemp("network"))


@pytest.fixture(scope="module")
def running_board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    board = start_board(tmp_path_factory.mktemp("board"))
    yield board
    stop_board(board)


@pytest.fixture
def board(running_board: Board, monkeypatch: pytest.MonkeyPatch) -> Board:
    """A board that this user may log in to; what lies there from other tests stays there."""
    visit(running_board, monkeypatch)
    return running_board


@pytest.fixture(scope="session")
def kept_cache(shared: Path) -> Path:
    """The run's own cache of devices: an emulated userland is set up in it once, and removed with it."""
    return shared / "devices"


@pytest.fixture(scope="session")
def _set_up_once(kept_cache: Path) -> Callable[[Machine], None]:
    def ready(machine: Machine) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("EDGEC_CACHE", str(kept_cache))
            try:
                set_up(machine)
            except EdgecError as error:
                if error.code not in CANNOT_SET_UP:
                    raise
                pytest.skip(f"no emulated {machine.name} userland here: {error.message}")

    return ready


@pytest.fixture
def userlands(
    _set_up_once: Callable[[Machine], None], kept_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Machine], None]:
    """Set up a machine unless it was, and let ``open_device`` find it."""
    monkeypatch.setenv("EDGEC_CACHE", str(kept_cache))
    return _set_up_once


@pytest.fixture
def aarch64(userlands: Callable[[Machine], None]) -> None:
    """The 64-bit cores are there."""
    userlands(AARCH64)
