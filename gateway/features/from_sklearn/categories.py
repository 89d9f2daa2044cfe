"""Estimators that know categories."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from gateway.features.from_sklearn.conversion import Conversion, Converter, Estimator, as_carried, as_code, plain_value
from gateway.features.from_sklearn.parts import Lane, Part, apart, lanes_of
from gateway.features.plain_columns import is_missing


def _one_hot_encoder(conversion: Conversion, encoder: Estimator, parts: list[Part], path: str) -> list[Part] | None:
    found = [_one_hot(conversion, encoder, i, part, path) for i, part in enumerate(apart(parts))]
    return _all_sound(found)


def _one_hot(conversion: Conversion, encoder: Estimator, i: int, part: Part, path: str) -> Part | None:
    combiner = getattr(encoder, "feature_name_combiner", "concat")  # as long as scikit-learn has it
    if combiner != "concat":
        conversion.problem(
            path,
            f"OneHotEncoder names its elements by a function, {_name_of(combiner)}; "
            "set_params(feature_name_combiner='concat') names them as the plan does",
        )
        return None
    part = _as_scikit_learn_has_it(encoder.categories_[i], part)
    (lane,) = part.lanes
    values = conversion.categories(encoder.categories_[i], lane, path)
    if values is None:
        return None
    rare = _infrequent(encoder, i, lane)
    dropped = encoder.drop_idx_[i] if encoder.drop_idx_ is not None else None
    outcome = _unknown_outcome(encoder.handle_unknown, bool(rare))
    kept = [value for value in values if value not in rare]
    arguments = {**conversion.known(kept, lane, path), "unknown": outcome, "missing": outcome}
    if rare:
        arguments["infrequent"] = rare
    if dropped is not None:
        arguments["drop"] = [values[dropped]]
    if None in kept:
        arguments["missing_name"] = str(encoder.categories_[i][values.index(None)])
    width = len(kept) + bool(rare) - (dropped is not None)
    return part.then({"one_hot": arguments}, [replace(lane, kind="bool")] * width)


def _name_of(function: object) -> str:
    return getattr(function, "__name__", repr(function))


def _as_scikit_learn_has_it(categories: Iterable[object], part: Part) -> Part:
    # It has floats between its steps where ours have integers, and 1.0 is another name than 1.
    (lane,) = part.lanes
    if lane.kind not in ("int", "bool") or not any(type(plain_value(value)) is float for value in categories):
        return part
    return part.carrying({"multiply": {"by": 1.0}}, "float")


def _unknown_outcome(handle_unknown: str, has_infrequent: bool) -> str:
    if handle_unknown == "error":
        return "error"
    return "infrequent" if has_infrequent and handle_unknown != "ignore" else "ignore"


def _infrequent(encoder: Estimator, i: int, lane: Lane) -> list[object]:
    infrequent_of = getattr(encoder, "infrequent_categories_", None)
    if infrequent_of is None or infrequent_of[i] is None:
        return []
    return as_carried([plain_value(value) for value in infrequent_of[i]], lane)


def _ordinal_encoder(conversion: Conversion, encoder: Estimator, parts: list[Part], path: str) -> list[Part] | None:
    found = [_ordinal(conversion, encoder, i, part, path) for i, part in enumerate(apart(parts))]
    return _all_sound(found)


def _ordinal(conversion: Conversion, encoder: Estimator, i: int, part: Part, path: str) -> Part | None:
    (lane,) = part.lanes
    unknown = _outcome(encoder, encoder.unknown_value) if encoder.handle_unknown == "use_encoded_value" else "error"
    # scikit-learn gives NaN a code of its own, outside the order in which None has a place.
    ordered = [value for value in encoder.categories_[i] if value is None or not is_missing(value)]
    has_nan = len(ordered) < len(encoder.categories_[i])
    values = conversion.categories(ordered, lane, path)
    if values is None:
        return None
    if has_nan and None in values:
        conversion.problem(
            path, f"column {lane.column!r} has several categories for missing (None, NaN, the empty text)"
        )
        return None
    rare = _infrequent(encoder, i, lane)
    known = conversion.known([value for value in values if value not in rare], lane, path)
    missing = _outcome(encoder, encoder.encoded_missing_value) if has_nan else unknown
    arguments = {**known, "unknown": unknown, "missing": missing}
    if rare:
        arguments["infrequent"] = rare
    return part.carrying({"ordinal": arguments}, "float" if float in (type(unknown), type(missing)) else "int")


def _outcome(encoder: Estimator, value: Any) -> object:
    # As the encoder's dtype holds it.
    import numpy as np  # noqa: PLC0415

    return as_code(np.asarray(value).astype(encoder.dtype))


def _target_encoder(conversion: Conversion, encoder: Estimator, parts: list[Part], path: str) -> list[Part] | None:
    found = [_target(conversion, encoder, i, part, path) for i, part in enumerate(apart(parts))]
    return _all_sound(found)


def _target(conversion: Conversion, encoder: Estimator, i: int, part: Part, path: str) -> Part | None:
    (lane,) = part.lanes
    values = conversion.categories(encoder.categories_[i], lane, path)
    if values is None:
        return None
    classes = [str(name) for name in encoder.classes_] if encoder.target_type_ == "multiclass" else []
    width = len(classes) or 1
    numbers = [[float(number) for number in row] for row in encoder.encodings_[i * width : (i + 1) * width]]
    means = [float(mean) for mean in encoder.target_mean_] if classes else [float(encoder.target_mean_)]
    arguments = {
        **conversion.known(values, lane, path),
        "encodings": conversion.numbers(numbers, lane),
        "mean": means if classes else means[0],
        "classes": classes,
    }
    return part.then({"target_encode": arguments}, [replace(lane, kind="float")] * width)


def _feature_hasher(conversion: Conversion, hasher: Estimator, parts: list[Part], path: str) -> list[Part] | None:
    if hasher.input_type != "string":
        conversion.problem(
            path, f"FeatureHasher of input_type {hasher.input_type!r}: only lists of texts, 'string', have a step"
        )
        return None
    part = _column_of_lists(conversion, hasher, parts, path)
    if part is None:
        return None
    arguments: dict[str, object] = {"buckets": int(hasher.n_features), "signed": bool(hasher.alternate_sign)}
    return [part.then({"hash": arguments}, [replace(part.lanes[0], kind="int")] * int(hasher.n_features))]


def _multi_label_binarizer(
    conversion: Conversion, binarizer: Estimator, parts: list[Part], path: str
) -> list[Part] | None:
    values = [plain_value(value) for value in binarizer.classes_]
    if not all(isinstance(value, str) for value in values):
        conversion.problem(path, "MultiLabelBinarizer has classes that are no texts; only lists of texts have a step")
        return None
    part = _column_of_lists(conversion, binarizer, parts, path)
    if part is None:
        return None
    arguments = {**conversion.known(values, part.lanes[0], path), "unknown": "ignore"}
    return [part.then({"multi_hot": arguments}, [replace(part.lanes[0], kind="bool")] * len(values))]


def _column_of_lists(conversion: Conversion, estimator: Estimator, parts: list[Part], path: str) -> Part | None:
    if len(parts) != 1 or len(parts[0].lanes) != 1:
        conversion.problem(
            path,
            f"{type(estimator).__name__} takes one column of lists, not {len(lanes_of(parts))}; name it in `columns`",
        )
        return None
    conversion.tell(parts[0].lanes, "strings")
    return parts[0]


def _all_sound(found: list[Part | None]) -> list[Part] | None:
    sound = [part for part in found if part is not None]
    return sound if len(sound) == len(found) else None


CONVERTERS: dict[str, Converter] = {
    "sklearn.preprocessing.OneHotEncoder": _one_hot_encoder,
    "sklearn.preprocessing.OrdinalEncoder": _ordinal_encoder,
    "sklearn.preprocessing.TargetEncoder": _target_encoder,
    "sklearn.preprocessing.MultiLabelBinarizer": _multi_label_binarizer,
    "sklearn.feature_extraction.FeatureHasher": _feature_hasher,
}
