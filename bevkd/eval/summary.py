"""What every metrics file says besides the metrics: how many frames they are of, and what is odd about these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

FRAMES, WARNINGS = "frames", "warnings"


def with_frames(metrics: Mapping[str, Any], frames: int, warnings: Sequence[str] = ()) -> dict[str, Any]:
    """The content of a metrics file: metrics, `frames` evaluated and, only where there are any, `warnings`."""
    return {**metrics, FRAMES: frames, **({WARNINGS: list(warnings)} if warnings else {})}
