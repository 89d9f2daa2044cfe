SHORT_TURN_NS: int
LONG_TURN_NS: int

def take_short_turns() -> None:
    """Let the calling thread interrupt others as soon as it wakes up."""

def take_long_turns(nicer_by: int) -> None:
    """Let the calling thread run at a nice value higher by ``nicer_by``, in turns that other threads may cut short."""
