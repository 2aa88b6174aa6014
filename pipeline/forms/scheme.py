"""What an integer runtime accepts, as data: one ``Scheme`` per integer semantics, read from TOML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, Literal

from edgec.pipeline.core.errors import EdgecError, nearest_hint
from edgec.pipeline.core.toml_file import STRICT, read_toml, validate

Level = Literal["fast", "accurate", "best", "as-given"]
"""How hard the quantizer tries; ``as-given`` takes the parameters that a network brings along."""

SCHEMES = Path(str(resources.files("edgec.targets.schemes")))


@dataclass(frozen=True)
class Scheme:
    """The quantization that one family of runtimes executes in integers. Pure data: simple types with defaults.

    Attributes:
        name: of the semantics, e.g. ``"tflite"``.
        activation_dtype: of quantized activations; weights are int8 beside ``"int16"``, which is symmetric.
        activation_symmetric: zero_point 0 for every activation (TensorRT).
        weight_granularity: one scale per output channel, or one per tensor (some NPUs).
        weight_narrow_range: int8 weights in [-127, 127].
        weight_lowest: kernels take weights of -128 as well, where a network brings them along.
        reduce_range: 7-bit weights, so that a sum of two u8*s8 products cannot saturate int16 on x86 without VNNI.
        safe_pairs: as many bits of each output channel's weights as keep these sums from saturating: 7 to 8.
        integer_operators: ONNX operators that compute on integers; their data inputs are quantized.
        same_scale_operators: operators whose output carries its input's parameters.
        fused_activations: operators that a preceding Conv, Gemm or Add absorbs; the tensor between does not exist.
        fused_residual: a convolution adds the other summand of a residual Add before it rounds, so that its own
            output never exists as integers.
        fixed_output: ``(operator, scale, zero_point)``: output parameters that the runtime prescribes.
        quantize_output: the network's outputs are stored as integers as well.
        per_channel_depthwise_input: activations in front of a depthwise convolution may own a scale per channel.
        hard_swish: ``"float"`` inside a fused kernel, one ``"native"`` integer operator, or ``"split"`` into
            ``t = clip(x + 3, 0, 6)`` and ``x * t`` with the 1/6 in the next layer's weights.
        rescale_activations: a per-channel constant Mul may stand in front of QuantizeLinear (the runtime fuses it).
        equalize: what a per-channel scale may be carried through: ``"conv"``, ``"residual"``, ``"squeeze_excite"``,
            ``"hard_swish"``. With ``hard_swish = "native"`` those that a scale passes are split, no others.
        min_channels: convolutions with fewer input or output channels than this stay in float, where integers would
            not be faster; depthwise ones count as their number of groups.
        float_classes: layers that stay in float by what they are: ``"depthwise"`` convolutions, and ``"pointwise"``
            ones, convolutions of a map of one position as in squeeze-excite.
        whole_depthwise: depthwise convolutions stay in float where floats leave them: each reader of what one writes,
            behind the Relu or Clip that it absorbs, must compute on integers.
        mixed: what the precision ``mixed`` computes finer: the ``"first"`` layers, whose noise reaches all others, or
            layers by ``"class"``, those that gain least by integers.
        first_layers: what they compute in under ``mixed``: ``"float"``, or the name of another scheme.
        prefix: the first layers stand apart, up to the tensor behind which these integers leave least noise.
        tables: a function of single values that no integer operator is may be looked up in a table of 256 integers.
        max_requantization: upper bound of input_scale * weight_scale / output_scale, 0 for none; XNNPACK refuses 256.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    name: str
    activation_dtype: Literal["int8", "uint8", "int16"] = "int8"
    activation_symmetric: bool = False
    weight_granularity: Literal["per_channel", "per_tensor"] = "per_channel"
    weight_narrow_range: bool = True
    weight_lowest: bool = True
    reduce_range: bool = False
    safe_pairs: bool = False
    integer_operators: tuple[str, ...] = ("Conv", "Gemm", "MatMul")
    same_scale_operators: tuple[str, ...] = ("MaxPool", "Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze")
    fused_activations: tuple[str, ...] = ("Relu", "Clip")
    fused_residual: bool = False
    fixed_output: tuple[tuple[str, float, int], ...] = ()
    quantize_output: bool = False
    per_channel_depthwise_input: bool = False
    hard_swish: Literal["float", "native", "split"] = "float"
    rescale_activations: bool = False
    equalize: tuple[Literal["conv", "residual", "squeeze_excite", "hard_swish"], ...] = ()
    min_channels: int = 0
    float_classes: tuple[Literal["depthwise", "pointwise"], ...] = ()
    whole_depthwise: bool = False
    mixed: Literal["first", "class"] = "first"
    first_layers: str = "float"
    prefix: bool = False
    tables: bool = False
    max_requantization: float = 0.0

    def __post_init__(self) -> None:
        limits = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767)}[self.activation_dtype]
        wrong = {
            "min_channels is negative": self.min_channels < 0,
            "max_requantization is negative": self.max_requantization < 0,
            "activation_symmetric needs activation_dtype = 'int8'": self.activation_symmetric and limits[0] == 0,
            "activation_dtype = 'int16' needs activation_symmetric": limits[1] > 255 and not self.activation_symmetric,
            "equalize carries no scale through hard_swish = 'float'": "hard_swish" in self.equalize
            and self.hard_swish == "float",
        }
        for operator, scale, zero_point in self.fixed_output:
            text = f"fixed_output of {operator} needs a scale above 0 and a zero point from {limits[0]} to {limits[1]}"
            wrong[text] = scale <= 0 or not limits[0] <= zero_point <= limits[1]
        if found := [text for text, is_wrong in wrong.items() if is_wrong]:
            raise ValueError("; ".join(found))

    @property
    def needs_safe_pairs(self) -> bool:
        """Weights of 7 bits are safe as they are."""
        return self.safe_pairs and not self.reduce_range

    @property
    def operators(self) -> tuple[str, ...]:
        """All that it names, as ONNX does."""
        fixed = (operator for operator, _, _ in self.fixed_output)
        return (*self.integer_operators, *self.same_scale_operators, *self.fused_activations, *fixed)


def scheme_names() -> list[str]:
    """Names that ``load_scheme`` knows, sorted."""
    return sorted(path.stem for path in SCHEMES.glob("*.toml"))


def load_scheme(name: str, above: tuple[Path, ...] = ()) -> Scheme:
    """Read one of the schemes that come with edgec, or a user's own file by its path.

    Args:
        above: files that extend this one.

    Raises:
        EdgecError: ``unknown-scheme``; ``no-such-file``, ``bad-scheme`` for a file.
    """
    if name.endswith(".toml"):
        own = Path(name)
        if own.resolve() in above:
            raise EdgecError("bad-scheme", f"'{own}' extends itself", "name another base, or one of edgec's own")
        return parse_scheme(read_toml(own, "bad-scheme"), own, above=(*above, own.resolve()))
    if name not in scheme_names():
        raise EdgecError("unknown-scheme", f"no quantization scheme named '{name}'", nearest_hint(name, scheme_names()))
    path = SCHEMES / f"{name}.toml"
    return parse_scheme(read_toml(path, "bad-scheme"), path)


def parse_scheme(
    table: Mapping[str, Any], path: Path = SCHEMES / "edgec.toml", within: str = "", above: tuple[Path, ...] = ()
) -> Scheme:
    """Validate a scheme. ``extends = "tflite"`` starts from that one and overrides single fields.

    Args:
        path: the file that says so; a base that is a file lies beside it.
        within: its table, where it is not the whole file.
        above: files that extend this one, itself the last.

    Raises:
        EdgecError: ``bad-scheme`` for an unknown field or value, ``unknown-scheme`` for an unknown base.
    """
    fields = dict(table)
    if "extends" in fields:
        base = str(fields.pop("extends"))
        base = str(path.parent / base) if base.endswith(".toml") else base
        fields = asdict(load_scheme(base, above)) | fields
    if str(fields.get("first_layers", "")).endswith(".toml"):
        fields["first_layers"] = str(path.parent / str(fields["first_layers"]))
    scheme = validate(Scheme, fields, path, "bad-scheme", within)
    if path.parent != SCHEMES:
        _check_operators(scheme, path)
    return scheme


def _check_operators(scheme: Scheme, path: Path) -> None:
    """A misspelt operator would just stay in float."""
    from onnx import defs

    known = {schema.name for schema in defs.get_all_schemas()}
    for operator in scheme.operators:
        if operator not in known:
            message = f"'{path}': ONNX has no operator '{operator}'"
            raise EdgecError("bad-scheme", message, nearest_hint(operator, sorted(known)))
