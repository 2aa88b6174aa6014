"""The picture that a network takes: its shape, its layout, and the normalisation that it begins with.

Layout and normalisation leave the network: every form of it then takes ``(N, C, H, W)`` as ``Preprocess`` makes it, and
a board does with one multiply and add what the network did node by node. What is taken is ``gain * x + shift`` in each
channel, before anything pads, so nothing changes but rounding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from edgec.pipeline.core.errors import EdgecError
from edgec.pipeline.data.preprocess import MAX_CROP_PX, Preprocess
from edgec.pipeline.network.channels_last import is_turned_later, turned_at
from edgec.pipeline.network.nodes import attributes_of, names_read
from edgec.pipeline.network.opset import constants_of

Layout = Literal["NCHW", "NHWC", "NHW"]
Array = npt.NDArray[Any]

NUM_CHANNELS = (1, 3, 4)
CHANNEL_AXIS = {"NCHW": 1, "NHWC": 3, "NHW": 3}
MIN_GAIN, MAX_GAIN, MAX_SHIFT = 1e-5, 1e4, 1e4
"""Of what is taken: beyond these a normalisation stays in the network."""
PIXEL_SIZED = 4.0
"""A mean or deviation of this size is one of pixels 0..255."""
HINT = (
    "expected one float32, float16 or uint8 input (N, C, H, W), or (N, H, W, C) with a Transpose first; "
    f"C is 1, 3 or 4, N symbolic or 1, H and W at most {MAX_CROP_PX}"
)


@dataclass(frozen=True)
class ImageInput:
    """What a network's own input was, before layout and normalisation were taken from it.

    Attributes:
        layout: of the file's input; ``NHW`` has no axis of channels.
        is_uint8: the file takes bytes and casts them.
        gain: per channel; the network now takes ``gain * x + shift`` of the x that it took.
        shift: per channel.
    """

    shape: tuple[int, int, int]
    layout: Layout
    is_uint8: bool
    gain: tuple[float, ...]
    shift: tuple[float, ...]

    @property
    def normalises(self) -> bool:
        """The network began with a normalisation of its own."""
        return any(gain != 1 for gain in self.gain) or any(shift != 0 for shift in self.shift)

    def after(self, preprocess: Preprocess) -> Preprocess:
        """``preprocess``, which made the file's input, and then what was taken from the network.

        Raises:
            ValueError: as ``Preprocess``.
        """
        if not self.normalises:
            return preprocess
        std = np.asarray(preprocess.std) / self.gain
        mean = np.asarray(preprocess.mean) - std * self.shift
        return replace(preprocess, mean=_as_float32(mean), std=_as_float32(std))

    def own_units(self) -> tuple[float, str] | None:
        """By what pixels are divided before the network's own normalisation, and why; None where it has none.

        Its mean and deviation are those of pixels of 0..255, or of 0..1; others tell nothing.
        """
        std = 1 / np.asarray(self.gain)
        mean = -np.asarray(self.shift) * std
        if self.is_uint8 or np.any(std >= PIXEL_SIZED) or np.any(np.abs(mean) >= PIXEL_SIZED):
            return 1.0, "the network takes pixels of 0..255"
        if self.normalises and np.all(std < 0.75) and np.all((mean >= 0) & (mean <= 1)):
            return 255.0, "the network normalises values of 0..1 itself"
        return None

    def feeds(self, noise: npt.NDArray[np.float32]) -> tuple[Array, Array]:
        """What the file takes and what the network takes now, for one noise ``(N, C, H, W)``."""
        gain, shift = (np.asarray(values).reshape(1, -1, 1, 1) for values in (self.gain, self.shift))
        taken = (noise - shift) / gain
        taken = np.clip(np.rint(taken), 0, 255).astype(np.uint8) if self.is_uint8 else taken.astype(np.float32)
        given = (taken.astype(np.float64) * gain + shift).astype(np.float32)
        if self.layout == "NHW":
            return taken[:, 0], given
        return (np.ascontiguousarray(taken.transpose(0, 2, 3, 1)) if self.layout == "NHWC" else taken), given


@dataclass(frozen=True)
class _State:
    """What has become of the input along the nodes that read it one after the other."""

    layout: Layout
    is_real: bool
    gain: Array
    shift: Array

    @property
    def can_end(self) -> bool:
        """A preprocessing can make this tensor."""
        return self.layout == "NCHW" and self.is_picture

    @property
    def is_picture(self) -> bool:
        """A preprocessing can make this tensor but for its layout."""
        bounded = np.all((self.gain >= MIN_GAIN) & (self.gain <= MAX_GAIN) & (np.abs(self.shift) <= MAX_SHIFT))
        return self.is_real and bool(bounded)

    def then(self, gain: Array, shift: Array) -> _State | None:
        if not (np.isfinite(gain).all() and np.isfinite(shift).all()):
            return None
        return replace(self, gain=self.gain * gain, shift=self.shift * gain + shift)


def take_image(model: onnx.ModelProto, path: Path, takes: bool = True) -> tuple[ImageInput, onnx.ModelProto]:
    """The image input, and the network without the layout and the normalisation that it begins with.

    Args:
        model: in float32; its input may be bytes.
        path: for messages.
        takes: False where all was taken already; what the network begins with is its own then.

    Raises:
        EdgecError: ``bad-input-shape``, ``dynamic-shape``.
    """
    value, sides = _image_value(model, path)
    found = _taken(model, value, sides, takes)
    if found is None and takes and len(sides) == 3 and sides[2] in NUM_CHANNELS and is_turned_later(model, value.name):
        model = turned_at(model, _behind_arithmetic(model, value, sides))
        found = _taken(model, value, sides, takes)
    if found is None:
        raise _bad_shape(path, value)
    return found


def _taken(
    model: onnx.ModelProto, value: onnx.ValueInfoProto, sides: Sequence[int], takes: bool
) -> tuple[ImageInput, onnx.ModelProto] | None:
    """By the first layout in which the network, or what follows its first nodes, takes pictures; None for none."""
    is_uint8 = value.type.tensor_type.elem_type == TensorProto.UINT8
    chain = list(_readers(model, value.name)) if takes else []
    for layout, (channels, height, width) in _layouts(sides):
        start = _State(layout, not is_uint8, np.ones(channels), np.zeros(channels))
        states = list(_walk(chain, start, constants_of(model), (height, width)))
        last = max((place for place, state in enumerate(states) if state.can_end), default=None)
        if last is None or not max(height, width) <= MAX_CROP_PX:
            continue
        shape, found = (channels, height, width), states[last]
        image = ImageInput(shape, layout, is_uint8, tuple(found.gain.tolist()), tuple(found.shift.tolist()))
        return image, _without(model, value.name, chain[:last], shape) if last else model
    return None


def _behind_arithmetic(model: onnx.ModelProto, value: onnx.ValueInfoProto, sides: Sequence[int]) -> str:
    """The last tensor of ``(N, H, W, C)`` that is a normalised picture."""
    is_real = value.type.tensor_type.elem_type != TensorProto.UINT8
    start = _State("NHWC", is_real, np.ones(sides[2]), np.zeros(sides[2]))
    chain = list(_readers(model, value.name))
    states = list(_walk(chain, start, constants_of(model), (sides[0], sides[1])))
    places = [place for place, state in enumerate(states) if state.layout == "NHWC" and state.is_picture]
    return chain[places[-1] - 1].output[0] if places and places[-1] else value.name


def _image_value(model: onnx.ModelProto, path: Path) -> tuple[onnx.ValueInfoProto, list[int]]:
    """The one input, and its sides behind the batch."""
    constants = {tensor.name for tensor in model.graph.initializer}
    images = [value for value in model.graph.input if value.name not in constants]
    if len(images) != 1:
        named = ": " + ", ".join(f"'{value.name[:80]}'" for value in images[:8]) if images else ""
        raise EdgecError("bad-input-shape", f"'{path}' has {len(images)} inputs{named}", HINT)
    kind = images[0].type.tensor_type
    if len(kind.shape.dim) not in (3, 4) or kind.elem_type not in (TensorProto.FLOAT, TensorProto.UINT8):
        raise _bad_shape(path, images[0])
    batch, *sides = kind.shape.dim
    if not all(side.dim_value for side in sides):
        raise EdgecError(
            "dynamic-shape",
            f"'{path}' has the input '{images[0].name}' of shape {_text(images[0])}, expected fixed height and width",
            "export with a fixed image size; only the batch may be symbolic",
        )
    if batch.dim_value not in (-1, 0, 1) or any(side.dim_value < 1 for side in sides):
        raise _bad_shape(path, images[0])
    return images[0], [side.dim_value for side in sides]


def _text(value: onnx.ValueInfoProto) -> str:
    sides = value.type.tensor_type.shape.dim
    return "(" + ", ".join(side.dim_param or str(side.dim_value or "?") for side in sides) + ")"


def _bad_shape(path: Path, value: onnx.ValueInfoProto) -> EdgecError:
    kind = value.type.tensor_type.elem_type
    named = TensorProto.DataType.Name(kind).lower() if kind in TensorProto.DataType.values() else "no tensor"
    typed = "" if kind == TensorProto.FLOAT else f", {named}"
    message = f"'{path}' has the input '{value.name}' of shape {_text(value)}{typed}"
    return EdgecError("bad-input-shape", message, HINT)


def _layouts(sides: Sequence[int]) -> Iterator[tuple[Layout, tuple[int, int, int]]]:
    """What the sides may mean, with (C, H, W)."""
    if len(sides) == 2:
        yield "NHW", (1, sides[0], sides[1])
        return
    if sides[2] in NUM_CHANNELS:
        yield "NHWC", (sides[2], sides[0], sides[1])
    if sides[0] in NUM_CHANNELS:
        yield "NCHW", (sides[0], sides[1], sides[2])


def _readers(model: onnx.ModelProto, name: str) -> Iterator[onnx.NodeProto]:
    """The node that alone reads a tensor, the one that alone reads that one's output, and so on."""
    uses = Counter(names_read(model.graph.node))
    by_input = {given: node for node in model.graph.node for given in node.input}
    outputs = {value.name for value in model.graph.output}
    while uses[name] == 1 and name in by_input:
        node = by_input[name]
        if outputs & set(node.output):
            return
        yield node
        name = node.output[0]


def _walk(
    chain: Sequence[onnx.NodeProto], state: _State, constants: Mapping[str, Array], sides: tuple[int, int]
) -> Iterator[_State]:
    """The state before each node, and behind the last one that is a layout or a normalisation."""
    yield state
    for node in chain:
        after = _STEPS[node.op_type](node, state, constants, sides) if _is_known(node) else None
        if after is None:
            return
        yield (state := after)


def _is_known(node: onnx.NodeProto) -> bool:
    return node.domain in ("", "ai.onnx") and node.op_type in _STEPS and bool(node.input and node.output)


def _identity(
    node: onnx.NodeProto, state: _State, constants: Mapping[str, Array], sides: tuple[int, int]
) -> _State | None:
    return state


def _cast(node: onnx.NodeProto, state: _State, constants: Mapping[str, Array], sides: tuple[int, int]) -> _State | None:
    return replace(state, is_real=True) if attributes_of(node).get("to") == TensorProto.FLOAT else None


def _transpose(
    node: onnx.NodeProto, state: _State, constants: Mapping[str, Array], sides: tuple[int, int]
) -> _State | None:
    if state.layout == "NHWC" and list(attributes_of(node).get("perm", ())) == [0, 3, 1, 2]:
        return replace(state, layout="NCHW")
    return None


def _reshape(
    node: onnx.NodeProto, state: _State, constants: Mapping[str, Array], sides: tuple[int, int]
) -> _State | None:
    """With one channel a reshape turns the layout as a Transpose does; converters write it for one."""
    if len(state.gain) != 1 or len(node.input) != 2 or node.input[1] not in constants:
        return None
    target = np.ravel(constants[node.input[1]]).tolist()
    return _with_sides(state, target[1:], sides) if len(target) == 4 and target[0] in (-1, 0, 1) else None


def _unsqueeze(
    node: onnx.NodeProto, state: _State, constants: Mapping[str, Array], sides: tuple[int, int]
) -> _State | None:
    axes = attributes_of(node).get("axes")
    if axes is None and len(node.input) == 2 and node.input[1] in constants:
        axes = np.ravel(constants[node.input[1]]).tolist()
    if state.layout != "NHW" or axes is None or len(axes) != 1 or axes[0] not in (1, 3, -3, -1):
        return None
    return replace(state, layout="NCHW" if axes[0] in (1, -3) else "NHWC")


def _with_sides(state: _State, target: list[int], sides: tuple[int, int]) -> _State | None:
    if target == [1, *sides]:
        return replace(state, layout="NCHW")
    return replace(state, layout="NHWC") if target == [*sides, 1] else None


def _arithmetic(
    node: onnx.NodeProto, state: _State, constants: Mapping[str, Array], sides: tuple[int, int]
) -> _State | None:
    """Add, Sub, Mul or Div with a constant that is one number in each channel."""
    place = next((place for place, name in enumerate(node.input) if name in constants), None)
    if place is None or len(node.input) != 2:
        return None
    value = _per_channel(constants[node.input[place]], state)
    if value is None or (node.op_type == "Div" and (place == 0 or not value.all())):
        return None
    one, zero = np.ones_like(value), np.zeros_like(value)
    if node.op_type == "Sub" and place == 0:
        return state.then(-one, value)
    gains = {"Mul": value, "Div": 1 / value if node.op_type == "Div" else one}
    shifts = {"Add": value, "Sub": -value}
    return state.then(gains.get(node.op_type, one), shifts.get(node.op_type, zero))


def _batch_norm(
    node: onnx.NodeProto, state: _State, constants: Mapping[str, Array], sides: tuple[int, int]
) -> _State | None:
    told = attributes_of(node)
    if state.layout != "NCHW" or told.get("training_mode", 0) or len(node.output) != 1:
        return None
    if len(node.input) != 5 or not all(name in constants for name in node.input[1:]):
        return None
    scale, bias, mean, variance = (constants[name].astype(np.float64) for name in node.input[1:])
    if any(values.shape != state.gain.shape for values in (scale, bias, mean, variance)) or np.any(variance < 0):
        return None
    gain = scale / np.sqrt(np.maximum(variance + told.get("epsilon", 1e-5), 1e-30))
    return state.then(gain, bias - mean * gain)


def _per_channel(value: Array, state: _State) -> Array | None:
    """``(C,)`` of a constant that is the same for all pixels; None for any other."""
    rank, axis, channels = (3 if state.layout == "NHW" else 4), CHANNEL_AXIS[state.layout], len(state.gain)
    if value.ndim > rank or value.dtype.kind != "f":
        return None
    shape = (1,) * (rank - value.ndim) + value.shape
    if any(side != 1 and (place != axis or side != channels) for place, side in enumerate(shape)):
        return None
    return np.broadcast_to(value.reshape(-1).astype(np.float64), (channels,))


_STEPS = {
    "Identity": _identity,
    "Cast": _cast,
    "Transpose": _transpose,
    "Reshape": _reshape,
    "Unsqueeze": _unsqueeze,
    "Add": _arithmetic,
    "Sub": _arithmetic,
    "Mul": _arithmetic,
    "Div": _arithmetic,
    "BatchNormalization": _batch_norm,
}


def _without(
    model: onnx.ModelProto, name: str, taken: Sequence[onnx.NodeProto], shape: tuple[int, int, int]
) -> onnx.ModelProto:
    """The network without its first nodes; its input keeps its name."""
    gone = {node.output[0] for node in taken}
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    kept = [node for node in changed.graph.node if not gone & set(node.output)]
    joint = helper.make_node("Identity", [name], [taken[-1].output[0]], f"{name}/image")
    del changed.graph.node[:]
    changed.graph.node.extend([joint, *kept])
    known = [value for value in changed.graph.value_info if value.name not in gone]
    del changed.graph.value_info[:]
    changed.graph.value_info.extend(known)
    (value,) = (value for value in changed.graph.input if value.name == name)
    kind = value.type.tensor_type
    batch = onnx.TensorShapeProto.Dimension()
    batch.CopyFrom(kind.shape.dim[0])
    kind.elem_type = TensorProto.FLOAT
    del kind.shape.dim[:]
    kind.shape.dim.extend([batch, *(onnx.TensorShapeProto.Dimension(dim_value=side) for side in shape)])
    return changed


def _as_float32(values: Array) -> tuple[float, ...]:
    """The shortest decimals of the nearest float32 numbers, in which pixels are normalised."""
    return tuple(float(str(np.float32(value))) for value in values)
