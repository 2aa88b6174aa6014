"""Damage to bytes, texts and trees of values."""

from __future__ import annotations

import random
from typing import Any

NUMBERS = (0, -1, 1, 2**31, 2**40, 2**63, -(2**63), 10**400, 1e308, -1e-308, 0.5)
TEXTS = (
    "",
    "../../etc/passwd",
    "/etc",
    "a/../b",
    "x" * 5000,
    "\r",
    "a\nb",
    "\x1b[31m",
    "\u202e",
    "${HOME}",
    "%s",
    "CON",
    "null",
)


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Flip, overwrite, insert, delete, repeat or cut, once to four times."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at, length = rng.randrange(len(content) + 1), rng.choice((1, 1, 4, 8, 40))
        noise = rng.choice((rng.randbytes(length), b"\xff" * length, b"\0" * length))
        match rng.randrange(6):
            case 0 if at < len(content):
                content = content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]
            case 1:
                content = content[:at] + noise + content[at + length :]
            case 2:
                content = content[:at] + noise + content[at:]
            case 3:
                content = content[:at] + content[at + length :]
            case 4:
                content = content[:at] + content[max(at - length, 0) :]
            case _:
                content = content[:at]
    return content


def other_value(value: Any, rng: random.Random) -> Any:
    """Something else in the place of ``value``."""
    choices = [
        rng.choice(NUMBERS),
        rng.choice(TEXTS),
        None,
        [],
        {},
        True,
        [value],
        {"x": value},
        deep(rng.choice((3, 900))),
    ]
    if isinstance(value, list) and value:
        choices += [value[:-1], value * 3, value[::-1]] * 2
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        choices += [value + 1, -value, value * 1000, rng.choice(NUMBERS)] * 2
    return rng.choice(choices)


def spoilt(tree: Any, rng: random.Random) -> Any:
    """A copy of JSON-like data with one value, somewhere, replaced, removed or added."""
    if isinstance(tree, dict) and tree and rng.random() < 0.93:
        name = rng.choice(sorted(tree))
        if rng.random() < 0.05:
            return {key: value for key, value in tree.items() if key != name}
        return {**tree, name: spoilt(tree[name], rng)}
    if isinstance(tree, list) and tree and rng.random() < 0.6:
        at = rng.randrange(len(tree))
        return [*tree[:at], spoilt(tree[at], rng), *tree[at + 1 :]]
    return other_value(tree, rng)


def deep(levels: int) -> Any:
    """Lists within lists."""
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value
