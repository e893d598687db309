"""Fast JSON."""

from __future__ import annotations
import orjson
loads = orjson.loads
