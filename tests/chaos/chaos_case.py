"""Commands and workflows that are killed, and what becomes of them when the same command is given again.

A world is a temporary folder with clean clones. A victim is a command in one of them that makes some files. It runs
once without a kill: that is the reference, and its duration the span over which kills are drawn. What a victim reads is
made by the references of other victims, once.
"""

from __future__ import annotations

import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this code, whatever is installed
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))
from chaos_compare import aged, content, differences, kept_wrongly, temporaries
from workflow_case import BIN, copy_repository, documented_resume, environment, jobs, smoke_by_default

from bevkd.errors import ConfigError, DataError, Interrupted

LIMIT = 1800.0  # seconds until a command that does not end is a failure: a busy machine may take many times longer
GRACE = 90.0  # seconds for what a kill has orphaned to notice it: a training writes a checkpoint first
TRIES = 3  # of a kill that comes too late
TYPED = (ConfigError.exit_code, DataError.exit_code, Interrupted.exit_code)
EQUAL, TYPED_ERROR, OTHER = "equal", "typed", "other"
_FORMATS = {"nuscenes": ("v1.0-sim", 1), "kitti": ("", 1), "waymo": ("", 2), "nuimages": ("", 1)}
_GOAL = "run_unidistill_p1"  # two data sets, four trainings in a chain, a teacher cache, an evaluation


@dataclass(frozen=True)
class Victim:
    """A command that is killed.

    Attributes:
        name: of the victim.
        kind: its row in the table.
        command: program and arguments.
        outputs: what it makes, as paths in the clone; they are removed before it starts.
        who: whom a kill may hit.
        needs: names of victims whose outputs it reads.
        clone: the folder of its world that it runs in.
        goal: target of a workflow, which is resumed in the documented way.
    """

    name: str
    kind: str
    command: tuple[str, ...]
    outputs: tuple[str, ...]
    who: tuple[str, ...] = ("process", "group")
    needs: tuple[str, ...] = ()
    clone: str = "commands"
    goal: str | None = None


def victims() -> dict[str, Victim]:
    """All of them, by name."""
    bevkd = ("python", "-m", "bevkd")
    samples = ("data/index/nuscenes_sim/smoke_samples", "data/index/nuscenes_sim/smoke_paste")
    found = []
    for name, (version, workers) in _FORMATS.items():
        root, index = f"data/{name}_sim/smoke", f"data/index/{name}_sim/smoke"
        several = ("--workers", str(workers))
        simulate = (*bevkd, "simulate", "--dataset", name, "--scale", "smoke", "--out", root, *several)
        as_version = ("--version", version) if version else ()
        convert = (*bevkd, "convert", "--dataset", name, "--root", root, "--out", index, *several, *as_version)
        found.append(Victim(f"simulate {name}", "simulate", simulate, (root,)))
        found.append(Victim(f"convert {name}", "convert", convert, (index,), needs=(f"simulate {name}",)))
    train = (*bevkd, "train", "--run", "lidar_base", "--scale", "smoke")
    found.append(
        Victim("train", "train", train, ("results/runs/smoke/lidar_base", *samples), needs=("convert nuscenes",))
    )
    cache = (*bevkd, "cache", "--run", "unidistill_p4", "--scale", "smoke")
    found.append(Victim("cache", "cache", cache, ("results/cache", *samples), needs=("train",)))
    for who in ("snakemake", "group", "worker"):
        found.append(
            Victim(
                f"workflow {who}", f"workflow, {who}", ("snakemake", _GOAL), ("data", "results", ".snakemake"),
                (who,), clone="workflow", goal=_GOAL,
            )
        )  # fmt: skip
    return {victim.name: victim for victim in found}


def kinds() -> list[str]:
    """Rows of the table."""
    return list(dict.fromkeys(victim.kind for victim in victims().values()))


class Kill(NamedTuple):
    """One kill.

    Attributes:
        victim: name of what is killed.
        who: the process alone, its whole group, the workflow's Snakemake, or a job of its warm process.
        share: when, as a share of what the reference took.
        later: whether it is resumed some hours later, when leftovers are old; otherwise at once, while processes that
            the kill has orphaned may still be at work.
    """

    victim: str
    who: str
    share: float
    later: bool


def drawn(seed: int, number: int, among: Sequence[str]) -> Kill:
    """The kill of a number: the same for the same seed, whatever became of the others.

    Args:
        seed: of all kills.
        number: from 0.
        among: kinds of victims, each of which comes once in as many kills.
    """
    turn, place = divmod(number, len(among))
    kind = random.Random(f"{seed}/{turn}").sample(list(among), len(among))[place]
    chance = random.Random(f"{seed}/{turn}/{place}")
    victim = chance.choice([one for one in victims().values() if one.kind == kind])
    return Kill(victim.name, chance.choice(victim.who), chance.random(), chance.random() < 0.5)


@dataclass
class Outcome:
    """What became of a kill.

    Attributes:
        kind: `EQUAL`, `TYPED_ERROR` or `OTHER`.
        words: what is wrong, a line each; for a typed error, the error.
        after: seconds from the start to the kill.
        hit: who was killed in fact.
    """

    kind: str
    words: list[str]
    after: float
    hit: str


@dataclass
class World:
    """Clones in a temporary folder, with the references made so far.

    Attributes:
        folder: with a short path, for a workflow has sockets in it.
        cores: of a workflow; as documented when None.
    """

    folder: Path
    cores: str | None = None
    mark: str = field(default_factory=lambda: secrets.token_hex(8))
    seconds: dict[str, float] = field(default_factory=dict)
    number: int = 0

    def clone(self, victim: Victim) -> Path:
        """The clone that a victim runs in."""
        clone = self.folder / victim.clone
        if not clone.exists():
            smoke_by_default(copy_repository(clone))
            if victim.goal is None:
                _lengthen(clone / "config" / "scales" / "smoke.yaml")
        return clone

    def start(self, victim: Victim, arguments: Sequence[str] | None = None) -> subprocess.Popen[bytes]:
        """Start a victim, or another command in its place, in a group of its own; `output` is what it says."""
        self.number += 1
        (self.folder / "tmp").mkdir(parents=True, exist_ok=True)
        program, *rest = victim.command if arguments is None else arguments
        if program == "snakemake" and self.cores is not None:
            rest += ["--cores", self.cores]
        own = {"TMPDIR": str(self.folder / "tmp"), "BEVKD_CHAOS": self.mark, "BEVKD_CONSOLE": "0"}
        with open(self.output, "wb") as stream:
            return subprocess.Popen(
                [str(BIN / program), *rest],
                cwd=self.clone(victim),
                env=environment() | own,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )

    @property
    def output(self) -> Path:
        """What the last process said."""
        return self.folder / f"output{self.number}"

    def run(self, victim: Victim, arguments: Sequence[str] | None = None) -> tuple[int | None, str]:
        """Run a command to its end; its exit status (None: it did not end) and what it said."""
        process = self.start(victim, arguments)
        try:
            status: int | None = process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            status = None
        return status, self.output.read_text(errors="replace")

    def clear(self, victim: Victim) -> None:
        """Remove what a victim makes, and temporaries around it."""
        clone = self.clone(victim)
        for path in [*(clone / name for name in victim.outputs), *temporaries(self.roots(victim))]:
            if path.exists():
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def roots(self, victim: Victim) -> list[Path]:
        """Where commands write."""
        return [self.clone(victim) / name for name in ("data", "results")]

    def reference(self, victim: Victim) -> Path:
        """The folder with what a victim makes when nobody kills it; it is made when it is first asked for.

        Raises:
            AssertionError: it cannot be made.
        """
        kept = self.folder / "reference" / "-".join(victim.outputs).replace("/", "_")
        if not kept.exists():
            for name in victim.needs:
                self.reference(victims()[name])
            self.clear(victim)
            began = time.monotonic()
            status, text = self.run(victim)
            self.seconds[str(kept)] = time.monotonic() - began
            assert status == 0, f"{victim.name} does not even work without a kill: {status}\n{text[-4000:]}"
            assert not self.orphans(), f"{victim.name} leaves processes"
            assert not temporaries(self.roots(victim)), f"{victim.name} leaves temporaries"
            for name in victim.outputs:
                if (self.clone(victim) / name).exists():
                    shutil.copytree(self.clone(victim) / name, kept / name, symlinks=True)
        return kept

    def duration(self, victim: Victim) -> float:
        """Seconds that a victim takes when nobody kills it."""
        return self.seconds[str(self.reference(victim))]

    def restore(self, victim: Victim) -> None:
        """Put the reference back, for victims that read what this one makes."""
        kept = self.reference(victim)
        self.clear(victim)
        for name in victim.outputs:
            if (kept / name).exists():
                shutil.copytree(kept / name, self.clone(victim) / name, symlinks=True)

    def processes(self) -> list[int]:
        """All living processes that this world has started, whatever has become of their parents."""
        found = []
        for entry in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):
                if f"BEVKD_CHAOS={self.mark}".encode() in entry.read_bytes().split(b"\0"):
                    found.append(int(entry.parent.name))
        return found

    def orphans(self) -> list[int]:
        """Processes that have not ended in time; they are ended then."""
        end = time.monotonic() + GRACE
        while left := self.processes():
            if time.monotonic() > end:
                for process in left:
                    with suppress(ProcessLookupError):
                        os.kill(process, signal.SIGKILL)
                return left
            time.sleep(0.1)
        return []


def _lengthen(scale: Path) -> None:
    """Make trainings long enough for kills to hit more than the start, with all that a training can leave."""
    plain = yaml.safe_load(scale.read_text())
    plain["common"].setdefault("train", {}).update({"steps": 60, "checkpoint_every": 3, "log_every": 2, "snapshots": 3})
    scale.write_text(yaml.safe_dump(plain))


def _parent(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0


def _is_warm(process: int) -> bool:
    try:
        return b"warm.py" in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return False


def workers(world: World) -> tuple[list[int], list[int]]:
    """Warm processes of a world, and the jobs that are forked from them."""
    warm = {process: _parent(process) for process in world.processes() if _is_warm(process)}
    return [p for p in warm if warm[p] not in warm], [p for p in warm if warm[p] in warm]


def strike(world: World, process: subprocess.Popen[bytes], kill: Kill, seconds: float) -> tuple[str, float]:
    """Kill with -9 when its time has come; who was hit, and after how long. Nobody, when the victim was quicker."""
    began = time.monotonic()
    with suppress(subprocess.TimeoutExpired):
        process.wait(kill.share * seconds)
    hit = "nobody: it had ended"
    if kill.who == "worker":
        # Between two jobs there is none; the next one is as good.
        while process.poll() is None:
            servers, forked = workers(world)
            if servers or forked:
                # Now and then the process that all jobs come from.
                target = random.Random(kill.share).choice([*forked * 3, *servers])
                with suppress(ProcessLookupError):
                    os.kill(target, signal.SIGKILL)
                    hit = f"{'job' if target in forked else 'warm process'} {target}"
                    break
            time.sleep(0.01)
    elif process.poll() is None:
        hit = kill.who
        os.killpg(process.pid, signal.SIGKILL) if kill.who == "group" else process.kill()
    after = time.monotonic() - began
    if kill.who == "worker":
        try:
            process.wait(LIMIT)  # Snakemake sees that a job has failed, and may try it again
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            hit += ", upon which the workflow hangs"
    process.wait()
    return hit, after


def resume(world: World, victim: Victim) -> tuple[list[str], bool]:
    """Give the same command again; what is wrong, and whether that is a typed error."""
    if victim.goal is None:
        commands = [list(victim.command)]
    else:
        unlock, again = documented_resume()
        commands = [["snakemake", *unlock], ["snakemake", victim.goal, *again]]
    for command in commands:
        status, text = world.run(victim, command)
        if status == 0:
            continue
        lines = text.strip().splitlines()
        if victim.goal is None and status in TYPED and len(lines) > 0 and lines[-1].startswith("bevkd: "):
            return lines[-1:], "Traceback" not in text
        logs = [path for path in world.clone(victim).glob("results/logs/**/*.log") if path.stat().st_size]
        last = [
            f"--- {path}\n{path.read_text(errors='replace')[-2000:]}" for path in sorted(logs, key=os.path.getmtime)
        ]
        return [f"{' '.join(command)} ends with {status}", text[-4000:], *last[-3:]], False
    return [], False


def outcome(world: World, kill: Kill) -> Outcome:
    """Kill a victim, resume it, and compare."""
    victim = victims()[kill.victim]
    reference = world.reference(victim)
    for _ in range(TRIES):
        world.clear(victim)
        hit, after = strike(world, world.start(victim), kill, world.duration(victim))
        if not hit.startswith("nobody"):
            break
        world.seconds[str(reference)] = after  # the reference was slower: it loads from a cold disk, and compiles
    wrong = [hit] if hit.endswith("hangs") else []
    since = None
    if kill.later:
        wrong += [f"still there {GRACE:g} s after the kill: process {process}" for process in world.orphans()]
        aged(temporaries(world.roots(victim)))
        since = time.time()
    said, typed = resume(world, victim)
    wrong += [] if typed else said
    wrong += [f"still there {GRACE:g} s after the end: process {process}" for process in world.orphans()]
    wrong += kept_wrongly(world.roots(victim), since)
    parts = [name for name in victim.outputs if not name.startswith(".")]
    wrong += differences(content(reference, parts), content(world.clone(victim), parts))
    if victim.goal is not None and not said:
        wrong += _unfinished(world, victim)
    if wrong:
        return Outcome(OTHER, [*(said if typed else ()), *wrong], after, hit)
    return Outcome(TYPED_ERROR if typed else EQUAL, said, after, hit)


def _unfinished(world: World, victim: Victim) -> list[str]:
    """What a workflow that has ended well still holds or wants."""
    status, plan = world.run(victim, ["snakemake", str(victim.goal), "--dry-run"])
    wrong = [] if status == 0 and not jobs(plan) else [f"it would do more: {status}\n{plan[-3000:]}"]
    left = [path for name in ("locks", "incomplete") for path in (world.clone(victim) / ".snakemake" / name).glob("*")]
    return wrong + [f"Snakemake keeps {path}" for path in left]


def keep(world: World, victim: Victim, where: Path) -> None:
    """Move what a failed attempt has made out of the way, to be looked at, and put the reference in its place."""
    for name in victim.outputs:
        if (made := world.clone(victim) / name).exists():
            (where / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.move(made, where / name)
    world.restore(victim)
