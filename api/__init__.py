"""Compile small CNNs to measured INT8 artifacts for edge devices, from Python; ``docs/python.md`` is the reference.

Importing this loads nothing: each name comes with its first use, and torch, onnx and the runtimes with the first build.
"""

TYPE_CHECKING = False  # which type checkers take for True; importing typing would load thirty modules

if TYPE_CHECKING:
    from edgec.pipeline.api.build import build as build
    from edgec.pipeline.api.bundle import Bundle as Bundle
    from edgec.pipeline.api.bundle import open_bundle as open_bundle
    from edgec.pipeline.api.check import Checked as Checked
    from edgec.pipeline.api.check import check as check
    from edgec.pipeline.api.export import export as export
    from edgec.pipeline.api.images import Images as Images
    from edgec.pipeline.api.quantize import quantize as quantize
    from edgec.pipeline.core.errors import EdgecError as EdgecError

    __version__: str

_PLACES = {
    "Bundle": "api.bundle",
    "Checked": "api.check",
    "EdgecError": "core.errors",
    "Images": "api.images",
    "build": "api.build",
    "check": "api.check",
    "export": "api.export",
    "open_bundle": "api.bundle",
    "quantize": "api.quantize",
}
"""Where each name is defined, below ``edgec.pipeline``."""

__all__ = [*_PLACES]

if not TYPE_CHECKING:

    def __getattr__(name):
        """The name's own module is loaded now, and only now."""
        if name == "__version__":
            from importlib.metadata import version

            return version(__name__)
        if name not in _PLACES:
            raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
        from importlib import import_module

        found = globals()[name] = getattr(import_module(f"{__name__}.pipeline.{_PLACES[name]}"), name)
        return found

    def __dir__():
        return sorted({*globals(), "__version__", *_PLACES})
