"""Names that stand in records, replies and views for the numbers of ``_fast/exchange.pxd``; position = number."""

from __future__ import annotations

#: Which rule chose the version (``Rule``); "" for an exchange that failed before one was chosen.
RULES = ("", "split", "sticky", "pinned", "label", "override", "default", "shadow")
#: What a run was for (``Role``).
ROLES = ("primary", "shadow")
#: What became of an exchange's record by the time of the reply (``RecordState``).
RECORD_STATES = ("unlogged", "committed", "synced")
