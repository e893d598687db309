"""What the system says of the processor."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
# The widest that one has decides which kernels run, and with it the last bits of every sum.
_WIDEST_FIRST = ("amx_bf16", "avx512_bf16", "avx512f", "avx2", "avx")


def _facts(cpuinfo: Path) -> dict[str, str]:
    """What is said of the first core, by key; nothing where the system says nothing."""
    try:
        first = cpuinfo.read_text().split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in first.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


@cache
def processor(cpuinfo: Path = CPUINFO) -> str:
    """Name of the processor, of which kind it is and its widest instructions, as far as the system says.

    The name alone does not tell: cloud machines call several generations of processors alike, of which one multiplies
    bfloat16 and the other does not.
    """
    facts = _facts(cpuinfo)
    name = facts.get("model name") or platform.processor() or platform.machine()
    kind = [f"{key} {facts[said]}" for key, said in (("family", "cpu family"), ("model", "model")) if facts.get(said)]
    flags = facts.get("flags", "").split()
    widest = [flag.upper().replace("_", "-") for flag in _WIDEST_FIRST if flag in flags][:1]
    return f"{name} ({', '.join(kind + widest)})" if kind or widest else name


@cache
def cpu_has_bf16(cpuinfo: Path = CPUINFO) -> bool:
    """Whether the CPU multiplies bfloat16 in hardware (AVX512-BF16 or AMX); elsewhere autocast would slow down."""
    return bool({"avx512_bf16", "amx_bf16"} & set(_facts(cpuinfo).get("flags", "").split()))
