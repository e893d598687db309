"""Failed jobs: those that crashed are tried again, those that bad data or bad usage ended are not."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from workflow_case import ROOT, run, small_copy

MODEL = "results/runs/smoke/lidar_base/seed0/model.pt"


@pytest.fixture(autouse=True)
def _scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "workflow" / "scripts"))


@pytest.mark.parametrize(("status", "tries"), [(2, 1), (3, 1), (1, 2), (137, 2)])
def test_only_a_crash_is_tried_again(tmp_path: Path, status: int, tries: int) -> None:
    folder = small_copy(tmp_path)
    index = folder / "data" / "index" / "nuscenes_sim" / "smoke" / "frames.parquet"
    index.parent.mkdir(parents=True)
    (folder / "data" / "nuscenes_sim" / "smoke").mkdir(parents=True)
    index.touch()
    # The launcher as it is, but for what it starts.
    script = folder / "workflow" / "scripts" / "launch.py"
    text = script.read_text()
    assert "def run(arguments: list[str]) -> int:" in text
    fake = f'def ran(arguments):\n    print("once", file=open("tries", "a"))\n    return {status}\n\n\nrun = ran\n\n\n'
    script.write_text(text.replace('if __name__ == "__main__":', fake + 'if __name__ == "__main__":'))
    command = ("snakemake", MODEL, "--cores", "1", "--rerun-triggers", "mtime", "--config", "scale=smoke")
    done = run(folder, *command, ok=False)
    assert done.returncode != 0
    assert (folder / "tries").read_text().count("once") == tries
    assert done.stdout.count("Trying to restart job") == tries - 1


def test_the_last_line_of_a_log_decides(tmp_path: Path) -> None:
    from retries import LAST_LINE, is_hopeless

    log = tmp_path / "log"
    assert not is_hopeless([log])
    for text, hopeless in (("", False), (f"{LAST_LINE}\nKilled\n", False), (f"{'x' * 5000}\n{LAST_LINE}\n", True)):
        log.write_text(text)
        assert is_hopeless([log]) is hopeless


def test_a_rule_keeps_its_retries_for_its_other_jobs(tmp_path: Path) -> None:
    from retries import LAST_LINE, retry_only_crashes

    seen: list[tuple[Any, int]] = []

    class Scheduler:
        def _handle_error(self, job: Any, postprocess_job: bool = True) -> None:
            seen.append((job, job.rule.restart_times))

    scheduler, rule = Scheduler(), SimpleNamespace(restart_times=1)
    (tmp_path / "bad").write_text(LAST_LINE)
    retry_only_crashes(scheduler)
    jobs = [SimpleNamespace(rule=rule, log=[tmp_path / name], is_group=lambda: False) for name in ("bad", "crash")]
    for job in jobs:
        scheduler._handle_error(job)
    assert seen == [(jobs[0], 0), (jobs[1], 1)]
    assert rule.restart_times == 1
    retry_only_crashes(SimpleNamespace())  # another version of Snakemake
