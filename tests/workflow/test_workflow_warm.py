"""Jobs forked from a process with the libraries loaded: the same bits, signals, exit codes, and no stray processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_train_loop import assert_same_bits, weights
from workflow_case import ROOT, environment

from bevkd.train.log import read_log

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="jobs are forked on Linux alone")
LAUNCH = ROOT / "workflow" / "scripts" / "launch.py"


class Jobs:
    """Starts jobs as a workflow with this process id would."""

    def __init__(self, workflow: int, folder: Path, dataset: Any) -> None:
        self.workflow, self.folder = workflow, folder
        self.data = ["--set", f"data.root={dataset.root}", "--set", f"data.index={dataset.index}"]

    def start(self, *command: str, warm: str = "1", path: Path | None = None) -> subprocess.Popen[str]:
        """One job, whose files go below the folder."""
        variables = environment() | {
            "BEVKD_WORKFLOW_PID": str(self.workflow),
            "BEVKD_WARM": warm,
            "TMPDIR": str(self.folder),
            "PYTHONPATH": os.pathsep.join([str(path), str(ROOT)] if path else [str(ROOT)]),
            "BEVKD_CONFIG": str(ROOT / "config"),
        }
        return subprocess.Popen(
            [sys.executable, str(LAUNCH), "0", *command],
            cwd=ROOT,
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def train(self, root: str, steps: int, warm: str = "1", path: Path | None = None) -> subprocess.Popen[str]:
        """A training into `root`."""
        where = ["--runs", str(self.folder / root), "--set", f"train.steps={steps}", "--set", "train.log_every=1"]
        return self.start("train", "--run", "lidar_base", "--scale", "smoke", *where, *self.data, warm=warm, path=path)

    def out(self, root: str) -> Path:
        """The folder of `train(root)`."""
        return self.folder / root / "smoke" / "lidar_base" / "seed0"

    def servers(self) -> list[int]:
        """Process ids of servers of this workflow."""
        found = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                arguments = entry.read_bytes().split(b"\0")
            except OSError:
                continue
            if len(arguments) > 3 and arguments[1].endswith(b"warm.py") and arguments[3] == str(self.workflow).encode():
                found.append(int(entry.parent.name))
        return found


@pytest.fixture(scope="module")
def jobs(smoke_dataset: Any) -> Iterator[Jobs]:
    workflow = subprocess.Popen(["sleep", "600"])
    with tempfile.TemporaryDirectory() as folder:
        yield Jobs(workflow.pid, Path(folder), smoke_dataset)
    workflow.kill()
    workflow.wait()


@pytest.fixture
def short() -> Iterator[Path]:
    """An empty folder with a path short enough for sockets, which those of pytest are not."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def until(condition: Any, seconds: float = 60.0) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_a_forked_training_gives_the_same_bits_as_a_cold_one(jobs: Jobs) -> None:
    cold, warm, again = jobs.train("cold", 4, warm="0"), jobs.train("warm", 4), jobs.train("again", 4)
    for process in (cold, warm, again):
        text, _ = process.communicate(timeout=240)
        assert process.returncode == 0, text
    expected = weights(jobs.out("cold") / "model.pt")
    assert_same_bits(weights(jobs.out("warm") / "model.pt"), expected)
    assert_same_bits(weights(jobs.out("again") / "model.pt"), expected)
    assert len(jobs.servers()) == 1, "two jobs that start together share one server"


def test_a_forked_job_imports_next_to_nothing(jobs: Jobs) -> None:
    """A library that is imported after the fork is imported by every job."""
    trained = ["--run", "lidar_base", "--scale", "smoke", "--runs", str(jobs.folder / "forked")]
    commands = [
        ["train", *trained, *jobs.data, "--set", "train.steps=1"],
        ["table", "unidistill_s1", "--scale", "smoke", "--runs", str(jobs.folder / "forked")],
    ]
    code = (
        "import json, sys; sys.path[:0] = ['workflow/scripts', '.']\n"
        "import warm; warm.preload(); from bevkd.cli import main\n"
        f"for command in {commands!r}:\n"
        "    known = set(sys.modules); main(command)\n"
        "    print(json.dumps(sorted(set(sys.modules) - known)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert (jobs.out("forked") / "model.pt").exists(), done.stderr
    for line in done.stdout.splitlines()[-2:]:
        late = json.loads(line)
        assert len(late) < 12, late
        assert not [name for name in late if name.startswith("bevkd")]


def test_errors_come_back_with_text_and_exit_code(jobs: Jobs) -> None:
    process = jobs.start("train", "--run", "nobody")
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "bevkd: ConfigError: unknown run 'nobody'" in text


def test_a_signal_reaches_the_forked_job(jobs: Jobs) -> None:
    process = jobs.train("stopped", 3000)
    until(lambda: any(line["step"] >= 2 for line in read_log(jobs.out("stopped") / "log.jsonl")))
    process.send_signal(signal.SIGTERM)
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 4, text
    assert (jobs.out("stopped") / "checkpoint.pt").exists()


def test_a_job_ends_with_its_client(jobs: Jobs) -> None:
    process = jobs.train("orphan", 3000)
    until(lambda: any(line["step"] >= 2 for line in read_log(jobs.out("orphan") / "log.jsonl")))
    process.kill()
    process.wait()
    until(lambda: (jobs.out("orphan") / "checkpoint.pt").exists())
    until(lambda: len(jobs.servers()) == 1)  # the job, a fork of the server, is gone


def test_a_killed_job_is_reported(jobs: Jobs) -> None:
    process = jobs.train("killed", 3000)
    until(lambda: any(line["step"] >= 2 for line in read_log(jobs.out("killed") / "log.jsonl")))
    server = min(jobs.servers())
    (child,) = (pid for pid in jobs.servers() if pid != server)
    os.kill(child, signal.SIGKILL)
    process.communicate(timeout=30)
    assert process.returncode == 137


def test_the_server_ends_with_its_workflow(smoke_dataset: Any, short: Path) -> None:
    workflow = subprocess.Popen(["sleep", "600"])
    jobs = Jobs(workflow.pid, short, smoke_dataset)
    process = jobs.train("short", 2)
    text, _ = process.communicate(timeout=240)
    assert process.returncode == 0, text
    assert jobs.servers()
    workflow.kill()
    workflow.wait()
    until(lambda: not jobs.servers())
    left = [path.name for path in short.glob("bevkd-warm-*/*")]
    assert left == ["start.lock"], "sockets and logs are gone"


def test_without_a_private_folder_jobs_start_cold(smoke_dataset: Any, short: Path) -> None:
    shared = short / f"bevkd-warm-{os.getuid()}"
    shared.mkdir()
    shared.chmod(0o777)
    jobs = Jobs(os.getpid(), short, smoke_dataset)
    process = jobs.train("cold", 2)
    text, _ = process.communicate(timeout=240)
    assert process.returncode == 0, text
    assert not jobs.servers()
    assert not list(shared.iterdir())


def test_a_server_that_cannot_start_is_tried_once(smoke_dataset: Any, short: Path) -> None:
    jobs = Jobs(os.getpid(), short, smoke_dataset)
    broken = short / "path"
    broken.mkdir()
    (broken / "transformers.py").write_text("raise ImportError('broken')")  # LiDAR detectors do without
    texts = []
    for root in ("one", "two"):
        process = jobs.train(root, 2, path=broken)
        text, _ = process.communicate(timeout=240)
        assert process.returncode == 0, text
        texts.append(text)
    assert "jobs start cold" in texts[0]
    assert "jobs start cold" not in texts[1]
    assert "broken" in next(short.glob("bevkd-warm-*/*.log")).read_text()


def test_a_path_too_long_for_a_socket_means_cold(smoke_dataset: Any, tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    jobs = Jobs(os.getpid(), deep, smoke_dataset)
    process = jobs.train("cold", 2)
    text, _ = process.communicate(timeout=240)
    assert process.returncode == 0, text
    assert not jobs.servers()
