"""Devices that an artifact is brought to: emulated Arm cores and boards behind ssh."""

from edgec.targets.devices.device import Device, open_device
from edgec.targets.devices.device_runner import DeviceRunner
from edgec.targets.devices.inference import (
    Board,
    BoardLatency,
    BoardState,
    count_instructions,
    describe,
    measure_latency,
    predict,
)

__all__ = [
    "Board",
    "BoardLatency",
    "BoardState",
    "Device",
    "DeviceRunner",
    "count_instructions",
    "describe",
    "measure_latency",
    "open_device",
    "predict",
]
