"""Breadcrumbs: what to blame when native code takes the process down."""
cimport cython
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.string cimport memcpy

from gateway._fast.exchange cimport ID_BYTES, Exchange
from gateway._fast.key_hash cimport key_hash

from gateway.process.shared_page import CRUMBS_AT
