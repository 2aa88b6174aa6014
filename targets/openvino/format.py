"""OpenVINO IR as an artifact: a folder with ``model.xml`` and ``model.bin``."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from edgec.pipeline.forms.format import Alone, Contract, Runtime, TensorContract, counts, damaged, layout_of

DTYPES = {"fp32": "float32", "u8": "uint8", "i8": "int8", "i32": "int32", "i64": "int64"}
NO_OPERATORS = ("Parameter", "Result", "Const")
RUNNER = Path(__file__).with_name("board_runner.py")


@dataclass(frozen=True)
class IrFormat(Alone):
    """OpenVINO takes both files from memory."""

    name: str = "openvino-ir"
    artifact: str = "openvino"
    linkable: bool = True
    device_script: Path | None = RUNNER

    def contract(self, artifact: Path) -> Contract:
        """From the layers of ``model.xml``.

        Raises:
            EdgecError: ``corrupt-artifact-file``.
        """
        path = artifact / "model.xml"
        try:
            layers = ElementTree.parse(path).getroot().findall("./layers/layer")
            inputs = [_tensor(layer, "./output/port") for layer in layers if layer.get("type") == "Parameter"]
            outputs = [_tensor(layer, "./input/port") for layer in layers if layer.get("type") == "Result"]
        except (OSError, ElementTree.ParseError, ValueError, LookupError, RecursionError) as error:
            raise damaged(path, str(error)) from error
        kinds = (layer.get("type", "") for layer in layers)
        return Contract(tuple(inputs), tuple(outputs), counts(kind for kind in kinds if kind not in NO_OPERATORS))

    def runtime(self, settings: Any) -> Runtime:
        """An IR is read by its writer's release and later ones."""
        year_and_release = ".".join(metadata.version("openvino").split(".")[:2])
        return Runtime("OpenVINO", f">={year_and_release}")


def _tensor(layer: ElementTree.Element, port_path: str) -> TensorContract:
    port = layer.find(port_path)
    if port is None:
        raise ValueError(f"layer '{layer.get('name')}' has no port")
    shape = tuple(max(int(side.text or 0), 1) for side in port.iterfind("dim"))
    names = (layer.get("name", "").partition("/sink_port")[0]).split(",")
    dtype = DTYPES.get(port.get("precision", "").lower(), "other")
    return TensorContract(names[0], dtype, shape, layout_of(shape, False))
