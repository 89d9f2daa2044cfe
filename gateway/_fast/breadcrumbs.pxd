# What a process is running in native code, noted in the shared control page before it begins: when the process dies in
# there, the supervisor can tell whose batch it was. core/shared_page.py describes the bytes and reads them.
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    LANES = 4                    # breadcrumbs of a process
    CRUMB_BYTES = 4096
    MODEL_BYTES = 192
    VERSION_BYTES = 64
    CRUMB_REQUESTS = 128         # listed of a batch; of a larger one the first
    FINGERPRINT_PREFIX = 4096    # bytes of a body that are hashed

cdef struct CrumbRequest:
    uint8_t prediction_id[16]
    uint64_t fingerprint         # of the body's first FINGERPRINT_PREFIX bytes and its size; 0 without a body

cdef struct Crumb:
    uint64_t requests            # of the batch; 0 = not in native code. Set last, cleared first
    uint64_t rows
    uint16_t model_bytes
    uint16_t version_bytes
    uint32_t listed
    uint8_t reserved[40]
    uint8_t model[MODEL_BYTES]
    uint8_t version[VERSION_BYTES]
    CrumbRequest request[CRUMB_REQUESTS]

cdef class Breadcrumbs:
    cdef object memory           # the mapped page; keeps `crumbs` valid
    cdef uint8_t* crumbs         # borrowed from memory: LANES of CRUMB_BYTES

    # `lane` (any number; the loop's is 0) is about to run this batch. More lanes than LANES share the last one's.
    cpdef int enter(self, int lane, str model, str version, int64_t rows, list exchanges) except -1
    # It came back.
    cpdef void leave(self, int lane) noexcept
    cdef Crumb* crumb(self, int lane) noexcept
