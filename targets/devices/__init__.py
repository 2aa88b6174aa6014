"""Devices that an artifact is brought to: emulated cores and boards behind ssh; a module a kind, found by name."""
