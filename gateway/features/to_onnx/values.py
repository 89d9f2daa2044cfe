"""Missing values, as the graph carries them."""

from __future__ import annotations

from gateway.features.program import Kind
from gateway.features.to_onnx.graph import MISSING_INTEGER

MISSING: dict[Kind, float | str] = {
    Kind.FLOAT: float("nan"),
    Kind.INT: MISSING_INTEGER,
    Kind.BOOL: MISSING_INTEGER,
    Kind.TIMESTAMP: MISSING_INTEGER,
    Kind.STRING: "",
    # Lists have no form: they are refused, and the rest of the page is looked through with these in their places.
    Kind.STRINGS: "",
    Kind.CODES: MISSING_INTEGER,
}
