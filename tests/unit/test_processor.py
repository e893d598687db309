"""What a processor is called, and what it can."""

from __future__ import annotations

from pathlib import Path

import pytest

from bevkd.processor import cpu_has_bf16, processor

CORE = """processor	: {core}
vendor_id	: AuthenticAMD
cpu family	: 25
model		: {model}
model name	: AMD EPYC
flags		: fpu avx avx2{flags}

"""


@pytest.mark.parametrize(
    ("model", "flags", "called", "bf16"),
    [
        (1, "", "AMD EPYC (family 25, model 1, AVX2)", False),
        (17, " avx512f avx512_bf16", "AMD EPYC (family 25, model 17, AVX512-BF16)", True),
        (17, " avx512f", "AMD EPYC (family 25, model 17, AVX512F)", False),
        (143, " avx512f avx512_bf16 amx_bf16", "AMD EPYC (family 25, model 143, AMX-BF16)", True),
    ],
)
def test_processors_of_one_name_are_told_apart(tmp_path: Path, model: int, flags: str, called: str, bf16: bool) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("".join(CORE.format(core=core, model=model, flags=flags) for core in range(2)))
    assert processor(info) == called
    assert cpu_has_bf16(info) == bf16


def test_a_system_that_says_nothing_has_a_processor(tmp_path: Path) -> None:
    assert processor(tmp_path / "none")
    assert not cpu_has_bf16(tmp_path / "none")
    info = tmp_path / "arm"
    info.write_text("processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd bf16\n\n")
    assert "(" not in processor(info)
    assert not cpu_has_bf16(info)
