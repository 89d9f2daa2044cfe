"""How a thread shares a core with the loop that answers requests."""
import os

from libc.stdint cimport int32_t, uint32_t, uint64_t
from libc.string cimport memset

cdef extern from "<unistd.h>" nogil:
    long syscall(long number, ...)

cdef extern from "<sys/syscall.h>" nogil:
    const long SYS_sched_setattr

cdef extern from "<sched.h>" nogil:
    const uint32_t SCHED_BATCH

cdef enum:
    KEEP_POLICY = 8              # SCHED_FLAG_KEEP_POLICY of sched_setattr(2)

cdef struct SchedAttr:           # struct sched_attr of sched_setattr(2), its first version; glibc has none before 2.41
    uint32_t size
    uint32_t policy
    uint64_t flags
    int32_t nice
    uint32_t priority
    uint64_t runtime             # ns; since Linux 6.12: how long a turn may last. Ignored before.
    uint64_t deadline
    uint64_t period

SHORT_TURN_NS = 100_000          # the least that Linux takes …
LONG_TURN_NS = 100_000_000       # … and the most


def take_short_turns():
    """Let the calling thread interrupt others as soon as it wakes up: for who works little at a time and is waited for.

    Linux 6.12 and later (EEVDF) let a thread that wakes up interrupt another one only if its own turn is shorter; with
    equal turns it waits until the other's is over, up to 4 ms at 250 Hz, whatever their nice values. Threads that the
    caller starts inherit it. Elsewhere nothing changes, nor under another policy, such as a real-time one of the operator.
    """
    ask_for(0, KEEP_POLICY, os.getpriority(os.PRIO_PROCESS, 0), SHORT_TURN_NS)


def take_long_turns(int nicer_by):
    """Let the calling thread run at a nice value higher by ``nicer_by``, in turns of up to 100 ms that may be cut short.

    Under SCHED_BATCH it interrupts nobody when it wakes up: handing work to it does not take the core from who does.
    Threads that the caller starts inherit all of it.
    """
    cdef int nice = os.getpriority(os.PRIO_PROCESS, 0) + nicer_by
    if ask_for(SCHED_BATCH, 0, nice, LONG_TURN_NS) != 0:        # a sandbox may not know the call, or not like it
        os.setpriority(os.PRIO_PROCESS, 0, nice)


cdef int ask_for(uint32_t policy, uint64_t flags, int nice, uint64_t turn_ns) noexcept:
    # Of the calling thread. -1: refused.
    cdef SchedAttr wanted
    memset(&wanted, 0, sizeof(wanted))
    wanted.size = sizeof(wanted)
    wanted.policy = policy
    wanted.flags = flags
    wanted.nice = nice
    wanted.runtime = turn_ns
    return <int>syscall(SYS_sched_setattr, 0, &wanted, 0)
