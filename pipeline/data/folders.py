"""One folder of pictures, listed once: what is read, what is not, and that no link leaves the data set."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.data.dataset import IMAGE_SUFFIXES

UNREAD_SUFFIXES = frozenset(
    {".arw", ".avif", ".cr2", ".dcm", ".dng", ".exr", ".heic", ".heif", ".jp2", ".jxl", ".nef", ".npy", ".psd", ".raw"}
)
SKIPPED_FOLDERS = frozenset({"__MACOSX", "@eaDir"})  # what macOS and network disks leave beside pictures


@dataclass
class Listing:
    """Names in one folder, sorted, by what becomes of them; ``unread`` by suffix."""

    images: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    hidden: int = 0
    unread: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Folder:
    """A folder of a data set.

    Attributes:
        base: the data set's own, which no link may leave.
    """

    path: Path
    base: Path

    @cached_property
    def listing(self) -> Listing:
        """What lies in it.

        Raises:
            EdgecError: ``unreadable-data``, ``unsafe-path``.
        """
        found = Listing()
        try:
            entries = sorted(os.scandir(self.path), key=lambda entry: entry.name)
        except OSError as error:
            message = f"cannot read the folder '{self.path}': {error.strerror}"
            raise EdgecError("unreadable-data", message, "check its permissions") from error
        for entry in entries:
            suffix = os.path.splitext(entry.name)[1].lower()
            if entry.name.startswith("."):
                found.hidden += suffix in IMAGE_SUFFIXES
            elif os.path.isdir(entry.path):
                if entry.name not in SKIPPED_FOLDERS:
                    found.folders.append(entry.name)
            elif suffix in IMAGE_SUFFIXES and os.path.isfile(entry.path):
                found.images.append(entry.name)
            elif suffix in UNREAD_SUFFIXES:
                found.unread[suffix] += 1
            if entry.is_symlink() and entry.name in (*found.folders[-1:], *found.images[-1:]):
                check_inside(entry.path, self.base)
        return found

    @cached_property
    def inner(self) -> dict[str, Folder]:
        """Its visible folders by name."""
        return {name: Folder(self.path / name, self.base) for name in self.listing.folders}

    def walk(self) -> Iterator[Folder]:
        """Itself and every visible folder below, each once, whatever links there are."""
        seen: set[str] = set()
        waiting = [self]
        while waiting:
            folder = waiting.pop()
            real = os.path.realpath(folder.path)
            if real not in seen:
                seen.add(real)
                yield folder
                waiting += reversed(folder.inner.values())

    @property
    def has_classes(self) -> bool:
        """Whether its folders hold images."""
        return any(folder.listing.images for folder in self.inner.values())

    @property
    def num_images(self) -> int:
        """Images in it and below."""
        return sum(len(folder.listing.images) for folder in self.walk())


def check_inside(path: str | Path, base: Path) -> None:
    """Refuse a path that leaves ``base`` once its links are followed.

    Raises:
        EdgecError: ``unsafe-path``.
    """
    real, inside = os.path.realpath(path), os.path.realpath(base)
    if os.path.commonpath((real, inside)) != inside:
        raise EdgecError("unsafe-path", f"'{path}' is a link out of '{base}'", "copy what it names into the folder")


def counted(count: int, noun: str, rest: str) -> tuple[str, ...]:
    """``("3 images beside the class folders",)``, or nothing where there are none."""
    return (f"{count:,} {noun}{'' if count == 1 else 's'} {rest}",) if count else ()


def left_over(folders: Iterable[Folder]) -> tuple[str, ...]:
    """What was passed over in these folders, in words."""
    listings = [folder.listing for folder in folders]
    notes = counted(sum(listing.hidden for listing in listings), "hidden file", "such as macOS leaves beside images")
    for suffix, count in sorted(sum((listing.unread for listing in listings), Counter[str]()).items()):
        notes += counted(count, "file", f"of a kind that is not read: {suffix}")
    return notes
