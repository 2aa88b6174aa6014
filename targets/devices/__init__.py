"""Devices that an artifact is brought to: emulated Arm cores and boards behind ssh; a module a kind, found by name."""
