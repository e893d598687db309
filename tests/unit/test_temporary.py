"""Who writes a folder, what a kill leaves, and where output goes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bevkd.cli import main
from bevkd.errors import ConfigError, DataError
from bevkd.io import (
    atomic_folder,
    atomic_path,
    check_output,
    check_output_folder,
    only_writer,
    write_bytes,
    write_text,
)
from bevkd.sim.jobs import fresh_root
from bevkd.temporary import AGE_S

HOLD = """
import sys, time
from pathlib import Path
from bevkd.io import atomic_folder
with atomic_folder(Path(sys.argv[1])) as folder:
    (folder / "mine").write_text("half")
    print("in", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that is in the middle of writing the folder `out`."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "out")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "in\n"
    yield process
    process.kill()
    process.wait()


def old(path: Path, age_s: float = AGE_S + 60) -> None:
    os.utime(path, (time.time() - age_s,) * 2)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("write", [atomic_folder, only_writer, lambda out: fresh_root(out, 1)])
def test_one_process_at_a_time_writes_a_folder(tmp_path: Path, writer: object, write: Callable[[Path], object]) -> None:
    with pytest.raises(ConfigError, match=f"another process is writing {tmp_path / 'out'}"):
        write(tmp_path / "out").__enter__()  # type: ignore[attr-defined]
    with atomic_folder(tmp_path / "other") as folder:  # which is no hindrance for its neighbours
        (folder / "a").write_text("1")
    assert names(tmp_path / "other") == {"a"}
    assert len(names(tmp_path)) == 2


def test_simulating_into_a_folder_at_once_ends_with_a_line(
    tmp_path: Path, writer: object, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", "--dataset", "kitti", "--scale", "smoke", "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said == f"bevkd: ConfigError: another process is writing {tmp_path / 'out'}\n"


def test_who_keeps_a_folder_may_write_it(tmp_path: Path) -> None:
    with only_writer(tmp_path / "out"), atomic_folder(tmp_path / "out") as folder:
        (folder / "a").write_text("1")
    assert names(tmp_path) == {"out"}


def test_what_a_kill_leaves_goes_when_it_is_old(tmp_path: Path, writer: subprocess.Popen[str]) -> None:
    (left,) = tmp_path.glob(".out.*.bevkd.tmp")
    old(left)
    write_text(tmp_path / "file", "x")
    with atomic_folder(tmp_path / "else"):
        pass
    assert left.exists()  # its process lives
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    old(left, 60)
    with atomic_folder(tmp_path / "out"):
        pass
    assert left.exists()  # perhaps somebody works on it from another machine
    old(left)
    before = [tmp_path / name for name in (".out.tmp", ".out.abcdefgh.tmp", ".out.abcdefgh.old")]
    others = [tmp_path / name for name in (".mine.tmp", "out.tmp", ".out.settings.yaml")]
    for path in (*before, *others):  # those of older versions, and of somebody else
        path.mkdir()
        old(path)
    with atomic_folder(tmp_path / "out"):
        pass
    assert names(tmp_path) == {"file", "else", "out", *(path.name for path in others)}


def test_files_that_a_kill_leaves_go_when_they_are_old(tmp_path: Path) -> None:
    for name in (".a.json.abcdefgh.bevkd.tmp", ".b.abcdefg1.bevkd.tmp"):
        (tmp_path / name).write_text("half")
    old(tmp_path / ".a.json.abcdefgh.bevkd.tmp")
    write_text(tmp_path / "c.json", "{}")
    assert names(tmp_path) == {".b.abcdefg1.bevkd.tmp", "c.json"}


def test_a_folder_with_content_is_not_simulated_into(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with fresh_root(tmp_path / "out", 1) as folder:  # an empty one is
        (folder / "a").write_text("1")
    with pytest.raises(ConfigError, match="not an empty folder"), fresh_root(tmp_path / "out", 1):
        pytest.fail("begun")
    with pytest.raises(DataError, match="Errno 39"), fresh_root(tmp_path / "late", 1) as folder:
        (tmp_path / "late").mkdir()
        (tmp_path / "late" / "theirs").write_text("2")
    assert names(tmp_path / "late") == {"theirs"}
    assert names(tmp_path) == {"out", "late"}


def test_output_through_links_goes_to_their_targets(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "old").write_text("old")
    for name in ("old", "new"):
        (tmp_path / name).symlink_to(f"far/{name}")
        write_text(tmp_path / name, "new")
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / "far" / name).read_text() == "new"
    (tmp_path / "data").symlink_to("far/data")
    with fresh_root(tmp_path / "data", 1) as folder:
        (folder / "a").write_text("1")
    assert (tmp_path / "data").is_symlink()
    assert names(tmp_path / "far") == {"old", "new", "data"}


def test_what_cannot_be_written_is_known_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "loop").symlink_to("loop")
    check_output(tmp_path / "new" / "folders" / "a.json")
    check_output_folder(tmp_path / "new" / "folders")
    check_output(Path("/dev/null"))
    assert names(tmp_path) == {"file", "loop"}
    for check, path in (
        (check_output, tmp_path),
        (check_output, tmp_path / "file" / "a.json"),
        (check_output, tmp_path / "loop"),
        (check_output, tmp_path / "loop" / "a.json"),
        (check_output_folder, tmp_path / "file"),
        (check_output_folder, tmp_path / "file" / "a"),
    ):
        with pytest.raises(DataError, match=rf"cannot be written: .*file={path}\)"):
            check(path)
    for write in (atomic_path, atomic_folder, only_writer):
        with pytest.raises(DataError, match="cannot be written"), write(tmp_path / "file" / "a"):
            pytest.fail("begun")
    with pytest.raises(DataError, match="Errno 21"), atomic_path(tmp_path):
        pytest.fail("begun")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", place], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("file systems cannot be mounted here")
    yield place
    subprocess.run(["umount", place], check=True)


def test_folders_that_were_made_for_nothing_are_gone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = tmp_path / "there"
    there.mkdir()
    words = ["convert", "--dataset", "nuscenes", "--version", "v1.0-mini", "--root", str(tmp_path / "nothing")]
    assert main([*words, "--out", str(there / "a" / "b" / "index")]) == 3
    assert "no such data set version" in capsys.readouterr().err
    assert list(there.iterdir()) == []


@pytest.mark.parametrize(
    "words", [["report"], ["report", "--preview"], ["table", "waymo"], ["figure", "unidistill_s1"]]
)
def test_results_that_cannot_be_written_are_known_first(
    tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main([*words, "--out", str(tmp_path / "file" / "results")]) == 3
    said = capsys.readouterr().err
    assert said.startswith("bevkd: DataError: cannot be written")
    assert said.count("\n") == 1


def test_a_full_disk_is_a_line_with_the_path(disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from bevkd.train.checkpoint import save_checkpoint

    torch = pytest.importorskip("torch")
    write_text(disk / "a", "old")
    with pytest.raises(DataError, match=rf"No space left on device \(file={disk / 'a'}\)"):
        write_bytes(disk / "a", bytes(1 << 20))
    with pytest.raises(DataError, match=r"No space left on device .*checkpoint\.pt"):
        save_checkpoint(disk, {"model": {"a": torch.zeros(1 << 20)}})
    assert names(disk) == {"a"}
    assert (disk / "a").read_text() == "old"
    assert main(["simulate", "--dataset", "kitti", "--scale", "smoke", "--out", str(disk / "kitti")]) == 3
    said = capsys.readouterr().err
    assert "No space left on device" in said.splitlines()[-1]
    assert str(disk / "kitti") in said
    assert "Traceback" not in said
    assert names(disk) == {"a"}
    with pytest.raises(OSError, match="No space left"):
        (disk / "rest").write_bytes(bytes(1 << 20))
    with pytest.raises(DataError, match="No space left"):
        check_output(disk / "b")


def test_mount_points_and_read_only_folders(disk: Path) -> None:
    for write in (atomic_folder, only_writer, lambda out: fresh_root(out, 1)):
        with pytest.raises(DataError, match=rf"mount point.*file={disk}\)"), write(disk):
            pytest.fail("begun")
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    for use in (atomic_folder, atomic_path, only_writer, lambda out: fresh_root(out, 1)):
        with pytest.raises(DataError, match="Read-only file system"), use(disk / "a"):
            pytest.fail("begun")
    with pytest.raises(DataError, match="Read-only file system"):
        check_output(disk / "a" / "b")
