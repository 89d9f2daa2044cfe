# TensorFlow Serving's predict request and reply (V1), also KServe's:
#   {"instances": [row, …]}            -> {"predictions": [row, …]}
#   {"inputs": {name: tensor, …}}      -> {"outputs": tensor, or {name: tensor, …}}
#   {"inputs": [row, …]}               -> both keys
# A row is an object of the model's inputs, or a bare value where the model takes one. Values have no datatype of their
# own: they are read as the version publishes its inputs, in one pass, straight into one buffer for each input.
#
# Stated outcomes: a number that the datatype cannot hold is refused; so is a fraction in an integer tensor, except that
# a named column of integers with a fraction or a null in it becomes FP64. null is NaN in FP32 and FP64, the empty
# string in BYTES. {"b64": "…"} stands for bytes. An optional input may be missing from some rows of named columns,
# which then hold a missing value. A key twice in a row, and a key that is no input, are refused.
from gateway._fast.exchange cimport Dialect, Exchange

cdef enum PredictMistake:            # Exchange.mistake.kind, beside those of json_text and tensor_binding
    PREDICT_KEYS = 200               # got: how many of `instances` and `inputs` there are
    NO_INSTANCES = 201
    ROW_NOT_OBJECT = 202             # expected: row; got: inputs of the model; other: the value
    ROW_UNKNOWN = 203                # name: the key; expected: row, -1 in {"inputs": {…}}
    ROW_TWICE = 204                  # likewise
    ROW_MISSING = 205                # likewise
    ROW_ELEMENT = 206                # name: input; other: the value; expected: row; got: datatype
    ROW_RANGE = 207                  # likewise
    ROW_LAYOUT = 208                 # name: input; expected: row, whose value has another shape than the rows before
    ROW_RAGGED = 209                 # likewise; arrays of unlike length or depth inside the row
    ROW_BASE64 = 210                 # likewise; {"b64": …} that does not decode
    INPUT_NOT_ARRAY = 211            # name: input of {"inputs": {…}}
    PREDICT_ONLY_BINARY = 212        # name: input; got: datatype, which has no JSON form
    TOO_MANY_COLUMNS_DEEP = 213      # name: input; more than MAX_RANK dimensions; expected: row

cdef class PredictDialect(Dialect):
    # scan: needs exchange.input_table; without one (no such model) it reads nothing, and routing says why.
    pass
