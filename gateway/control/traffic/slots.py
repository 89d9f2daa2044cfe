"""The 10,000 slots of a model: who has which, and the fewest moves to new weights. Pure.

A sticky key's hash picks a slot, so whoever's slot does not move stays with its version. A change therefore takes
slots only from versions whose share falls and gives them only to versions whose share rises.
"""

from __future__ import annotations

import base64
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.core.errors import InvalidRequest
from gateway.core.version_order import version_key

SLOTS = 10_000
#: A slot is one byte.
MAX_VERSIONS = 256
# Shares are floats; a millionth of a slot is rounding noise (0.1 * 10,000 is not 1,000).
_NOISE_DIGITS = 6
_SHARE_DIGITS = 12  # shown to people: 0.75, not 0.7499999999999999


@dataclass(frozen=True, slots=True)
class SlotPlan:
    """Slot → version: byte ``i`` of ``slots`` is an index into ``order``. Every version in ``order`` has a slot."""

    order: tuple[str, ...]
    slots: bytes

    def counts(self) -> dict[str, int]:
        """Slots of each version, in the order of ``order``."""
        found = Counter(self.slots)
        return {version: found[index] for index, version in enumerate(self.order)}

    def to_base64(self) -> str:
        """The slots as the snapshot carries them."""
        return base64.b64encode(self.slots).decode("ascii")

    @classmethod
    def from_base64(cls, order: tuple[str, ...], encoded: str) -> SlotPlan:
        """The plan that :meth:`to_base64` wrote. ValueError for anything else."""
        slots = base64.b64decode(encoded, validate=True)
        if len(slots) != SLOTS or not order or max(slots) >= len(order):
            raise ValueError(f"{len(slots)} slots over {len(order)} versions are no plan")
        return cls(order, slots)


def normalised(weights: Mapping[str, float]) -> dict[str, float]:
    """Shares that add up to 1, highest version last; versions of weight 0 are left out.

    InvalidRequest for weights that are negative or not finite, add up to nothing, or give a version less than a slot
    (0.01 %), which it might silently not get.
    """
    for version, weight in weights.items():
        if not math.isfinite(weight) or weight < 0:
            raise InvalidRequest(f"the weight of version {version} is {weight:g}, a number from 0 up is expected")
    largest = max(weights.values(), default=0.0)
    if largest <= 0:
        raise InvalidRequest("at least one version needs a weight above 0")
    # Brought near 1 by a power of two, which is exact: the sum of huge weights must stay finite.
    exponent = math.frexp(largest)[1]
    scaled = {version: math.ldexp(weight, -exponent) for version, weight in weights.items() if weight > 0}
    total = math.fsum(scaled.values())
    shares = {version: round(scaled[version] / total, _SHARE_DIGITS) for version in sorted(scaled, key=version_key)}
    smallest = min(shares, key=lambda version: shares[version])
    if round(shares[smallest] * SLOTS, _NOISE_DIGITS) < 1:
        raise InvalidRequest(
            f"version {smallest} would get {shares[smallest]:.6%} of the traffic; the least that can be given is 0.01%"
        )
    if len(shares) > MAX_VERSIONS:
        raise InvalidRequest(f"{len(shares)} versions cannot share traffic; {MAX_VERSIONS} can")
    return shares


def first_plan(shares: Mapping[str, float]) -> SlotPlan:
    """A plan for a model that had none: the same one for the same shares, on every machine."""
    return move(None, shares, {})


def move(plan: SlotPlan | None, shares: Mapping[str, float], previous_shares: Mapping[str, float]) -> SlotPlan:
    """The plan for ``shares`` (see :func:`normalised`) that is nearest to ``plan``.

    Each version has its share of 10,000 rounded down or up, so it is exact to less than one slot. As few slots move as
    these counts allow, and none moves back and forth: a version either gives or takes. Where both roundings are right,
    a version whose share did not change since ``previous_shares`` keeps what it has.
    """
    before = plan.counts() if plan else {}
    counts = _apportion(shares, before, previous_shares)
    order = tuple(sorted(counts, key=version_key))
    freed = sorted(_slots_to_give_up(plan, counts)) if plan else list(range(SLOTS))
    takers = [version for version in order for _ in range(counts[version] - before.get(version, 0))]
    slots = bytearray(_renumbered(plan, order) if plan else bytes(SLOTS))
    for slot, taker in zip(freed, takers, strict=True):
        slots[slot] = order.index(taker)
    return SlotPlan(order, bytes(slots))


def _slots_to_give_up(plan: SlotPlan, counts: Mapping[str, int]) -> list[int]:
    """Of each version that has too many, the last ones."""
    found = []
    for index, (version, had) in enumerate(plan.counts().items()):
        slot = SLOTS
        for _ in range(had - counts.get(version, 0)):
            slot = plan.slots.rindex(index, 0, slot)
            found.append(slot)
    return found


def _renumbered(plan: SlotPlan, order: tuple[str, ...]) -> bytes:
    """The plan's slots as indices into another order; those of versions that are not in it mean nothing."""
    table = bytes(order.index(version) if version in order else 0 for version in plan.order)
    return plan.slots.translate(table.ljust(256, b"\0"))


def _apportion(
    shares: Mapping[str, float], before: Mapping[str, int], previous_shares: Mapping[str, float]
) -> dict[str, int]:
    """Slots of each version: its quota rounded down, and for as many as the sum needs, up."""
    quotas = {version: round(share * SLOTS, _NOISE_DIGITS) for version, share in shares.items()}
    counts = {version: math.floor(quota) for version, quota in quotas.items()}
    fractional = [version for version in quotas if quotas[version] > counts[version]]

    def rounds_up_before(version: str) -> tuple[int, float, tuple[int, int, str]]:
        quota, had = quotas[version], before.get(version, 0)
        change = quota - round(previous_shares.get(version, 0.0) * SLOTS, _NOISE_DIGITS)
        must_stay_up = had > quota and change >= 0  # rounded down it would lose a slot without a smaller share
        must_stay_down = had < quota and change <= 0  # and the other way round
        return (must_stay_down - must_stay_up, counts[version] - quota, version_key(version))

    missing = SLOTS - sum(counts.values())
    for version in sorted(fractional, key=rounds_up_before)[:missing]:
        counts[version] += 1
    return counts


def without(plan: SlotPlan, shares: Mapping[str, float], missing: frozenset[str]) -> tuple[SlotPlan, dict[str, float]]:
    """The plan and shares while versions in ``missing`` cannot serve: their slots go to the others by their shares.

    Nobody else moves. ValueError if nobody is left.
    """
    left = {version: share for version, share in shares.items() if version not in missing}
    if not left:
        raise ValueError("no version is left to take the traffic")
    remaining = normalised(left)
    return move(plan, remaining, shares), remaining


def moved(before: SlotPlan, after: SlotPlan) -> dict[tuple[str, str], int]:
    """How many slots go from which version to which."""
    pairs = Counter(zip(before.slots, after.slots, strict=True))
    named = {(before.order[giver], after.order[taker]): count for (giver, taker), count in pairs.items()}
    return {(giver, taker): count for (giver, taker), count in named.items() if giver != taker}
