"""What the launcher gives to a job on GPUs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "workflow" / "scripts"


@pytest.mark.parametrize(("gpus", "share"), [(1, "4"), (2, "8"), (4, "16")])
def test_a_job_gets_its_gpus_share_of_the_cores(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, gpus: int, share: str
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import launch

    given: dict[str, Any] = {}
    variables = {"TMPDIR": str(tmp_path), "CUDA_VISIBLE_DEVICES": "0,1,2,3"}
    monkeypatch.setattr(os, "environ", os.environ | variables)
    monkeypatch.setattr(launch, "devices", lambda: ["0", "1", "2", "3"])
    monkeypatch.setattr(launch, "cores", lambda: 16)
    monkeypatch.setattr(launch, "take", lambda count, names, folder: names[:count])
    monkeypatch.setattr(launch, "supervise", lambda command, owner: given.update(os.environ) or 0)
    assert launch.main([str(gpus), "train", "--run", "camera_base"]) == 0
    assert given["BEVKD_CORES"] == share
    assert given["CUDA_VISIBLE_DEVICES"] == ",".join("0123"[:gpus])
