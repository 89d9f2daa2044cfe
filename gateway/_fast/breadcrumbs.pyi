from typing_extensions import Buffer

from gateway._fast.exchange import Exchange

class Breadcrumbs:
    """The breadcrumbs of one process: ``memory`` is ``ControlPage.memory``, ``offset`` the ``crumbs_at`` there."""

    def __init__(self, memory: Buffer, offset: int) -> None:
        """Raises ValueError where ``memory`` is too small or the offset is not a multiple of 8."""
    def enter(self, lane: int, model: str, version: str, rows: int, exchanges: list[Exchange]) -> int:
        """``lane`` (any number; the loop's is 0) is about to run this batch in native code."""
    def leave(self, lane: int) -> None:
        """It came back."""
