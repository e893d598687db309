"""The wheel, installed in an environment of its own, in a folder that is no clone: training, and docs/python_api.md."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from workflow_case import ROOT, copy_repository, working_files

PAGE = ROOT / "docs" / "python_api.md"


@dataclass(frozen=True)
class Installed:
    """The wheel, and the environment that it is installed in."""

    wheel: Path
    bin: Path

    def run(self, folder: Path, *command: str, ok: bool = True) -> str:
        """What a program of the environment prints in a folder."""
        # Nothing may point back to the clone: neither a path nor a setting.
        env = {k: v for k, v in os.environ.items() if not k.startswith(("BEVKD_", "PYTHON", "PYTEST", "VIRTUAL_ENV"))}
        env |= {"PATH": f"{self.bin}{os.pathsep}{env['PATH']}", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600
        )
        assert not ok or done.returncode == 0, f"{command} gave {done.returncode}\n{done.stdout}"
        return done.stdout


def pip(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "-q", *arguments], check=True)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Built without a download: the libraries are those of this environment, bevkd is not."""
    folder = tmp_path_factory.mktemp("wheel")
    source = copy_repository(folder / "source")
    pip("wheel", str(source), "--no-build-isolation", "--no-deps", "--wheel-dir", str(folder))
    (wheel,) = folder.glob("*.whl")
    shutil.rmtree(source)
    environment = folder / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    pip("--python", str(environment / "bin" / "python"), "install", "--no-deps", "--no-index", str(wheel))
    (site,) = environment.glob("lib/python*/site-packages")
    assert (site / "bevkd" / "_config" / "config.yaml").exists()
    (site / "libraries.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")  # .pth files therein are not read
    return Installed(wheel, environment / "bin")


@pytest.mark.slow
def test_the_wheel_holds_every_file(installed: Installed) -> None:
    names = {name for name in zipfile.ZipFile(installed.wheel).namelist() if ".dist-info/" not in name}
    packaged = {name for name in working_files() if name.startswith("bevkd/")}
    config = {f"bevkd/_{name}" for name in working_files() if name.startswith("config/")}
    assert names == packaged | config


@pytest.mark.slow
def test_the_api_page_word_for_word(installed: Installed, tmp_path: Path) -> None:
    """Its commands, then its Python as one program, where there is nothing else."""
    where = installed.run(tmp_path, "python", "-c", "import bevkd; print(bevkd.__file__)").strip()
    assert Path(where).is_relative_to(installed.bin.parent)
    blocks = re.findall(r"```(bash|python)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert [language for language, _ in blocks][:2] == ["bash", "python"]
    for command in "".join(text for language, text in blocks if language == "bash").splitlines():
        installed.run(tmp_path, *command.split())
    (tmp_path / "page.py").write_text("".join(text for language, text in blocks if language == "python"))
    printed = installed.run(tmp_path, "python", "page.py")
    assert "('lidar',)" in printed
    assert re.search(r"\w+ 0\.\d\d at x -?\d+\.\d m", printed)
    assert "'trans_err'" in printed
    assert (tmp_path / "results" / "runs" / "smoke" / "lidar_base" / "seed0" / "metrics_val.json").exists()

    # A project of one's own is laid over what is in the wheel.
    rows = "runs:\n  mine: {like: lidar_base, set: {train: {steps: 2}}}\n"
    (tmp_path / "config" / "papers" / "mine").mkdir(parents=True)
    (tmp_path / "config" / "papers" / "mine" / "runs.yaml").write_text(rows)
    installed.run(tmp_path, "bevkd", "train", "--run", "mine", "--scale", "smoke")
    assert (tmp_path / "results" / "runs" / "smoke" / "mine" / "seed0" / "model.pt").exists()
    assert "did you mean 'mine'" in installed.run(tmp_path, "bevkd", "train", "--run", "minee", ok=False)
