"""Steps that compute with numbers, each value for itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway._fast.feature_plan import parse_timestamp_text
from gateway._fast.feature_program import Operation
from gateway.features.program import Kind, Program
from gateway.features.steps.entry import NUMBERS, Elements, Lane, Outcomes, Part, StepEntry, Taken, Unfit

if TYPE_CHECKING:
    from gateway.config.feature_page import Scalar
    from gateway.config.feature_steps import numbers as page


def _passthrough(_arguments: page.Passthrough, taken: Taken) -> list[Part]:
    return list(taken.lanes)


def _impute(arguments: page.Impute, taken: Taken) -> list[Part]:
    values: list[Scalar] = taken.for_each("value", arguments.value)
    return [_filled(lane, value, taken.program) for lane, value in zip(taken.lanes, values, strict=True)]


def _filled(lane: Lane, value: Scalar, program: Program) -> Lane:
    kind = lane.kind
    if kind == Kind.STRING:
        if not isinstance(value, str) or not value:
            raise Unfit(f"`value` must be a text that is not empty for a string, not {value!r}")
        return lane.then(program.compute(Operation.OP_FILL_TEXT, kind, lane.value, text=value.encode()))
    if kind == Kind.FLOAT or (kind == Kind.INT and isinstance(value, float) and not value.is_integer()):
        if isinstance(value, str | bool):
            raise Unfit(f"`value` must be a number for a float, not {value!r}")
        return lane.then(
            program.compute(Operation.OP_FILL_NUMBER, Kind.FLOAT, program.number(lane.value), a=float(value))
        )
    return lane.then(program.compute(Operation.OP_FILL_INTEGER, kind, lane.value, i=whole_constant(value, kind)))


def whole_constant(value: Scalar, kind: Kind) -> int:
    """A constant of the page as an integer, an instant or a bool. Unfit if it is none."""
    if kind == Kind.TIMESTAMP:
        micros = parse_timestamp_text(value) if isinstance(value, str) else None
        if micros is None:
            raise Unfit(f"`value` must be an instant such as '2013-01-31T05:15:00Z' for a timestamp, not {value!r}")
        return micros
    if kind == Kind.BOOL:
        if not isinstance(value, bool):
            raise Unfit(f"`value` must be true or false for a bool, not {value!r}")
        return int(value)
    if isinstance(value, str | bool):
        raise Unfit(f"`value` must be a number for an int, not {value!r}")
    return int(value)


def _missing_indicator(_arguments: page.MissingIndicator, taken: Taken) -> list[Part]:
    return [indicator(lane, taken.program) for lane in taken.lanes]


def indicator(lane: Lane, program: Program) -> Lane:
    """1 where the lane is missing, else 0."""
    operations = {
        Kind.FLOAT: Operation.OP_NUMBER_MISSING,
        Kind.STRING: Operation.OP_TEXT_MISSING,
        Kind.STRINGS: Operation.OP_TEXT_MISSING,
    }
    operation = operations.get(lane.kind, Operation.OP_INTEGER_MISSING)
    return Lane(program.compute(operation, Kind.BOOL, lane.value), f"missingindicator_{lane.name}")


def _standard_scale(arguments: page.StandardScale, taken: Taken) -> list[Part]:
    means, scales = taken.for_each("mean", arguments.mean), taken.for_each("scale", arguments.scale)
    return taken.each_number(Operation.OP_SUBTRACT_DIVIDE, a=means, b=scales)


def _robust_scale(arguments: page.RobustScale, taken: Taken) -> list[Part]:
    centers, scales = taken.for_each("center", arguments.center), taken.for_each("scale", arguments.scale)
    return taken.each_number(Operation.OP_SUBTRACT_DIVIDE, a=centers, b=scales)


def min_max_factors(data_min: float, data_max: float, feature_range: tuple[float, float]) -> tuple[float, float]:
    """``(scale, shift)`` with x * scale + shift; a range of no width counts as 1, as in scikit-learn."""
    low, high = feature_range
    extent = data_max - data_min
    # Below ten epsilons scikit-learn takes a range for constant.
    scale = (high - low) / (1.0 if extent < 10 * 2.0**-52 else extent)
    return scale, low - data_min * scale


def _min_max_scale(arguments: page.MinMaxScale, taken: Taken) -> list[Part]:
    low, high = arguments.feature_range
    minima, maxima = taken.for_each("data_min", arguments.data_min), taken.for_each("data_max", arguments.data_max)
    parts: list[Part] = []
    for lane, data_min, data_max in zip(taken.lanes, minima, maxima, strict=True):
        scale, shift = min_max_factors(data_min, data_max, (low, high))
        value = taken.program.compute(Operation.OP_MULTIPLY_ADD, Kind.FLOAT, taken.number(lane), a=scale, b=shift)
        if arguments.clip:
            value = taken.program.compute(Operation.OP_CLIP, Kind.FLOAT, value, a=low, b=high)
        parts.append(lane.then(value))
    return parts


def _max_abs_scale(arguments: page.MaxAbsScale, taken: Taken) -> list[Part]:
    parts: list[Part] = []
    for lane, scale in zip(taken.lanes, taken.for_each("scale", arguments.scale), strict=True):
        value = taken.program.compute(Operation.OP_SUBTRACT_DIVIDE, Kind.FLOAT, taken.number(lane), a=0.0, b=scale)
        if arguments.clip:
            value = taken.program.compute(Operation.OP_CLIP, Kind.FLOAT, value, a=-1.0, b=1.0)
        parts.append(lane.then(value))
    return parts


def _multiply(arguments: page.Multiply, taken: Taken) -> list[Part]:
    # Adding -0.0 changes nothing, not even the sign of a zero.
    return taken.each_number(Operation.OP_MULTIPLY_ADD, a=taken.for_each("by", arguments.by), b=-0.0)


def _clip(arguments: page.Clip, taken: Taken) -> list[Part]:
    low = float("-inf") if arguments.min is None else arguments.min
    high = float("inf") if arguments.max is None else arguments.max
    return taken.each_number(Operation.OP_CLIP, a=low, b=high)


def _log1p(_arguments: page.Log1p, taken: Taken) -> list[Part]:
    return taken.each_number(Operation.OP_LOG1P)


def _log(_arguments: page.Log, taken: Taken) -> list[Part]:
    return taken.each_number(Operation.OP_LOGARITHM)


def _exp(_arguments: page.Exp, taken: Taken) -> list[Part]:
    return taken.each_number(Operation.OP_EXPONENTIAL)


def _sqrt(_arguments: page.Sqrt, taken: Taken) -> list[Part]:
    return taken.each_number(Operation.OP_SQUARE_ROOT)


def _abs(_arguments: page.Abs, taken: Taken) -> list[Part]:
    return taken.each_number(Operation.OP_ABSOLUTE)


def _binarize(arguments: page.Binarize, taken: Taken) -> list[Part]:
    return taken.each_number(Operation.OP_ABOVE, Kind.BOOL, a=arguments.threshold)


def _bucketize(arguments: page.Bucketize | page.KBins, taken: Taken) -> list[Part]:
    return taken.each_number(Operation.OP_BUCKETIZE, Kind.INT, constants=arguments.edges, length=len(arguments.edges))


def _k_bins(arguments: page.KBins, taken: Taken) -> list[Part]:
    if arguments.encode == "ordinal":
        return _bucketize(arguments, taken)
    return [_one_bin_of(lane, arguments.edges, taken) for lane in taken.lanes]


def _one_bin_of(lane: Lane, edges: tuple[float, ...], taken: Taken) -> Elements:
    bin_of = taken.program.compute(
        Operation.OP_BUCKETIZE, Kind.INT, taken.number(lane), constants=edges, length=len(edges)
    )

    def names() -> list[str]:
        return [f"{lane.name}_{i}.0" for i in range(len(edges) + 1)]  # scikit-learn numbers its bins in floats

    return Elements(bin_of, Operation.EMIT_ONE_HOT, len(edges) + 1, names)


def _cyclic(arguments: page.Cyclic, taken: Taken) -> list[Part]:
    parts: list[Part] = []
    for lane in taken.lanes:
        x = taken.number(lane)
        for operation, word in ((Operation.OP_SINE, "sin"), (Operation.OP_COSINE, "cos")):
            value = taken.program.compute(operation, Kind.FLOAT, x, a=arguments.period)
            parts.append(Lane(value, f"{lane.name}_{word}"))
    return parts


ENTRIES = [
    StepEntry(
        name="passthrough",
        takes=(Kind.FLOAT, Kind.INT, Kind.BOOL, Kind.STRING, Kind.TIMESTAMP),
        gives="what it takes",
        formula="x",
        outcomes=Outcomes(missing="stays missing: NaN in a float output, a failed row in an int64 one", infinite="x"),
        example="passthrough",
        compile=_passthrough,
        twin="ColumnTransformer's `passthrough`",
    ),
    StepEntry(
        name="impute",
        takes=(Kind.FLOAT, Kind.INT, Kind.BOOL, Kind.STRING, Kind.TIMESTAMP),
        gives="what it takes; a float where an int takes a value with a fraction",
        formula="value if x is missing, else x",
        outcomes=Outcomes(missing="`value`", infinite="x: infinite is not missing"),
        example="impute: {strategy: median, value: 3.5}",
        compile=_impute,
        twin="`SimpleImputer`",
    ),
    StepEntry(
        name="missing_indicator",
        takes=(Kind.FLOAT, Kind.INT, Kind.BOOL, Kind.STRING, Kind.TIMESTAMP, Kind.STRINGS),
        gives="bool",
        formula="1 if x is missing, else 0",
        outcomes=Outcomes(missing="1", infinite="0"),
        example="missing_indicator",
        compile=_missing_indicator,
        twin="`MissingIndicator`",
        fallback=Kind.BOOL,
    ),
    StepEntry(
        name="standard_scale",
        takes=NUMBERS,
        gives="float",
        formula="(x - mean) / scale",
        outcomes=Outcomes(missing="stays missing", infinite="x"),
        example="standard_scale: {mean: 3.87, scale: 1.9}",
        compile=_standard_scale,
        twin="`StandardScaler`",
        fallback=Kind.FLOAT,
    ),
    StepEntry(
        name="min_max_scale",
        takes=NUMBERS,
        gives="float",
        formula="x * s + (low - data_min * s), s = (high - low) / (data_max - data_min), or / 1 if they are equal",
        outcomes=Outcomes(missing="stays missing", infinite="x, or the bound it exceeds with `clip`"),
        example="min_max_scale: {data_min: 0, data_max: 52}",
        compile=_min_max_scale,
        twin="`MinMaxScaler`",
        fallback=Kind.FLOAT,
    ),
    StepEntry(
        name="max_abs_scale",
        takes=NUMBERS,
        gives="float",
        formula="x / scale",
        outcomes=Outcomes(missing="stays missing", infinite="x, or the bound it exceeds with `clip`"),
        example="max_abs_scale: {scale: 52}",
        compile=_max_abs_scale,
        twin="`MaxAbsScaler`",
        fallback=Kind.FLOAT,
    ),
    StepEntry(
        name="robust_scale",
        takes=NUMBERS,
        gives="float",
        formula="(x - center) / scale",
        outcomes=Outcomes(missing="stays missing", infinite="x"),
        example="robust_scale: {center: 29, scale: 19}",
        compile=_robust_scale,
        twin="`RobustScaler`",
        fallback=Kind.FLOAT,
    ),
    StepEntry(
        name="multiply",
        takes=NUMBERS,
        gives="float",
        formula="x * by",
        outcomes=Outcomes(missing="stays missing", infinite="x with the sign of x * by; NaN if `by` is 0"),
        example="multiply: {by: 0.5}",
        compile=_multiply,
        twin="`transformer_weights` of `ColumnTransformer` and `FeatureUnion`",
        fallback=Kind.FLOAT,
    ),
    StepEntry(
        name="clip",
        takes=NUMBERS,
        gives="float",
        formula="min if x < min, max if x > max, else x",
        outcomes=Outcomes(missing="stays missing", infinite="the bound it exceeds; x without that bound"),
        example="clip: {min: 0, max: 100}",
        compile=_clip,
        twin="`FunctionTransformer(numpy.clip, kw_args={'a_min': …, 'a_max': …})`",
        fallback=Kind.FLOAT,
    ),
    StepEntry(
        name="log1p",
        takes=NUMBERS,
        gives="float",
        formula="ln(1 + x); -∞ at -1, NaN below it",
        outcomes=Outcomes(missing="stays missing", infinite="∞ stays; -∞ becomes NaN"),
        example="log1p",
        compile=_log1p,
        twin="`FunctionTransformer(numpy.log1p)`",
        fallback=Kind.FLOAT,
    ),
    StepEntry(
        name="log",
        takes=NUMBERS,
        gives="float",
        formula="ln x; -∞ at 0, NaN below it",
        outcomes=Outcomes(missing="stays missing", infinite="∞ stays; -∞ becomes NaN"),
        example="log",
        compile=_log,
        twin="`FunctionTransformer(numpy.log)`",
        fallback=Kind.FLOAT,
    ),
    StepEntry(
        name="exp",
        takes=NUMBERS,
        gives="float",
        formula="e^x; ∞ beyond 709.78",
        outcomes=Outcomes(missing="stays missing", infinite="∞ stays; -∞ becomes 0"),
        example="exp",
        compile=_exp,
        twin="`FunctionTransformer(numpy.exp)`",
        fallback=Kind.FLOAT,
    ),
    StepEntry(
        name="sqrt",
        takes=NUMBERS,
        gives="float",
        formula="√x; NaN below 0",
        outcomes=Outcomes(missing="stays missing", infinite="∞ stays; -∞ becomes NaN"),
        example="sqrt",
        compile=_sqrt,
        twin="`FunctionTransformer(numpy.sqrt)`",
        fallback=Kind.FLOAT,
    ),
    StepEntry(
        name="abs",
        takes=NUMBERS,
        gives="float",
        formula="|x|",
        outcomes=Outcomes(missing="stays missing", infinite="∞"),
        example="abs",
        compile=_abs,
        twin="`FunctionTransformer(numpy.abs)`",
        fallback=Kind.FLOAT,
    ),
    StepEntry(
        name="binarize",
        takes=NUMBERS,
        gives="bool",
        formula="1 if x > threshold, else 0",
        outcomes=Outcomes(missing="stays missing", infinite="1; 0 for -∞"),
        example="binarize: {threshold: 0.5}",
        compile=_binarize,
        twin="`Binarizer`",
        fallback=Kind.BOOL,
    ),
    StepEntry(
        name="bucketize",
        takes=NUMBERS,
        gives="int",
        formula="how many edges are <= x",
        outcomes=Outcomes(missing="stays missing", infinite="the first or last interval"),
        example="bucketize: {edges: [6, 12, 18]}",
        compile=_bucketize,
        fallback=Kind.INT,
    ),
    StepEntry(
        name="k_bins",
        takes=NUMBERS,
        gives="one element per bin, or an int",
        formula="b is how many edges are <= x: 1 at the place b, else 0; or b",
        outcomes=Outcomes(missing="zeros; stays missing with `encode: ordinal`", infinite="the first or last bin"),
        example="k_bins: {edges: [6, 12, 18]}",
        compile=_k_bins,
        twin="`KBinsDiscretizer`",
        fallback=Kind.INT,
    ),
    StepEntry(
        name="cyclic",
        takes=NUMBERS,
        gives="two floats",
        formula="sin(2π r / period), cos(2π r / period); r is x's remainder by `period`, with the sign of x",
        outcomes=Outcomes(missing="NaN, NaN", infinite="NaN, NaN"),
        example="cyclic: {period: 24}",
        compile=_cyclic,
        fallback=Kind.FLOAT,
    ),
]
