"""The order in which tables should stand: headlines first, then what is cheap by what is still missing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping
from typing import TypeVar

T = TypeVar("T", bound=Hashable)
STEP = 100_000  # between the priorities of two tables; what stands below is the order among the jobs of one
PRINTED = 5.0  # so many times as much may a table cost that a paper prints and still come before another one


def in_order(
    needs: Mapping[T, Collection[Hashable]],
    seconds: Callable[[Hashable], float],
    weights: Mapping[T, float],
    first: Collection[T] = (),
) -> list[T]:
    """Tables in the order in which they should stand.

    Args:
        needs: by table, what must be made for it; what two tables share is paid by the first.
        seconds: what making one of these costs.
        weights: how many times as much a table may cost as another one and still come first; 1 where not named.
        first: those that come before all others, whatever they cost, in this order.
    """
    left = dict(needs)
    out = [name for name in dict.fromkeys(first) if name in left]
    there = {needed for name in out for needed in left.pop(name)}
    while left:
        costs = {name: sum(map(seconds, set(needed) - there)) / weights.get(name, 1.0) for name, needed in left.items()}
        out.append(min(costs, key=costs.__getitem__))  # of equals the first, as they are listed
        there |= set(left.pop(out[-1]))
    return out


def levels(order: Collection[T], needs: Mapping[T, Collection[Hashable]]) -> dict[Hashable, int]:
    """How urgent each need is: the number of tables that may come after the first one that wants it, plus one."""
    out: dict[Hashable, int] = {}
    for place, name in enumerate(order):
        for needed in needs[name]:
            out.setdefault(needed, len(order) - place)
    return out
