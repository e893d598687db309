"""Whether results that are compared were trained on one kind of processor, in one precision, by one set of libraries.

The same seed gives the same bits only there: elsewhere sums are taken in another order, and trainings part.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_COUNTED = {
    "processor": "processors",
    "device": "devices",
    "precision": "precisions",
    "torch": "versions of torch",
    "numpy": "versions of numpy",
    "python": "versions of Python",
}


def mixture(made: Iterable[Mapping[str, Any] | None]) -> str:
    """A sentence that names what differs between trainings, "" if nothing does; what is not known is left out.

    Args:
        made: what each training was made by and on, see `bevkd.provenance` and its precision.
    """
    known = [one for one in made if one]
    held = {name: sorted({str(one[name]) for one in known if one.get(name)}) for name in _COUNTED}
    if held["device"] == held["processor"]:  # of a CPU they are the same
        held["device"] = []
    parts = [f"{_COUNTED[name]} ({'; '.join(values)})" for name, values in held.items() if len(values) > 1]
    if not parts:
        return ""
    return f"Trained with different {', '.join(parts)}: the same seed gives the same bits only where these agree."
