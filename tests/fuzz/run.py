"""Fuzzing for some minutes with random seeds: `make fuzz MINUTES=10`.

Workers try case after case; each case is noted before it is read, so that one that hangs, takes all memory or ends the
process is known as well. What is neither right nor a typed error is shrunk, printed, and its file kept.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SLACK = 40.0  # seconds until a worker that says nothing is ended: a case may take 20, and hypothesis shrinks
MEMORY = 3_000_000_000
ROUND = 25  # cases of a target in a row


def worker(folder: Path, names: list[str], until: float) -> None:
    """Try cases until the time is over; what is found goes line by line into `folder`."""
    sys.path[:0] = [str(HERE), str(HERE.parents[1])]
    from fuzz_case import Case, cases, outcome
    from fuzz_targets import TARGETS
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as with_seed

    targets = [target for target in TARGETS if not names or target.name in names]
    (folder / "current").write_text("starting")
    with open(folder / "log.jsonl", "a", encoding="utf-8") as log:

        def say(kind: str, **what: Any) -> None:
            log.write(json.dumps({"kind": kind, **what}) + "\n")
            log.flush()

        def batch(target: Any, number: int, last: list[Any]) -> None:
            @with_seed(number)
            @settings(
                max_examples=ROUND, database=None, deadline=None, phases=(Phase.generate, Phase.shrink),
                suppress_health_check=list(HealthCheck), report_multiple_bugs=False,
            )  # fmt: skip
            @given(cases(target))
            def run(case: Case) -> None:
                last[0] = case
                (folder / "current").write_text(repr(case))
                say(outcome(target, case), target=target.name)

            run()

        while time.time() < until:
            target, number = random.choice(targets), random.getrandbits(32)
            last: list[Any] = [None]
            try:
                batch(target, number, last)
            except Exception as error:
                frames = traceback.extract_tb(error.__traceback__)
                own = [frame for frame in frames if "/bevkd/" in frame.filename]
                where = (own or frames)[-1]
                place = f"{Path(where.filename).name}:{where.lineno}"
                text = "".join(traceback.format_exception(error))[-4000:]
                say(
                    "other",
                    target=target.name,
                    case=repr(last[0]),
                    error=f"{type(error).__name__} at {place}",
                    text=text,
                )
    (folder / "current").write_text("done")


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0


class Watched:
    """A worker, and what it was last seen doing."""

    def __init__(self, folder: Path, arguments: list[str], until: float) -> None:
        self.folder, self.arguments, self.until = folder, arguments, until
        folder.mkdir(parents=True)
        self.lost: list[dict[str, Any]] = []
        self.start()

    def start(self) -> None:
        """Start it (anew)."""
        command = [sys.executable, __file__, "--worker", str(self.folder), "--until", str(self.until), *self.arguments]
        with open(self.folder / "err", "a") as errors:
            self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
        self.seen, self.since = "", time.time()

    def look(self) -> bool:
        """Whether it goes on; one that ended by itself, or was ended, is a finding, and started anew."""
        file = self.folder / "current"
        now = file.read_text(errors="replace") if file.exists() else ""
        if now != self.seen:
            self.seen, self.since = now, time.time()
        why = None
        code = self.process.poll()
        if code is None:
            if time.time() - self.since > SLACK and now.startswith("Case"):
                why = f"said nothing for {SLACK:g} s"
            elif _resident(self.process.pid) > MEMORY:
                why = f"took more than {MEMORY / 1e9:g} GB"
            if why:
                self.process.kill()
                self.process.wait()
        elif now != "done":
            why = f"ended with {code}"
        if why:
            self.lost.append({"kind": "other", "target": now[13:40], "case": now, "error": why, "text": ""})
            if time.time() < self.until and len(self.lost) < 20:
                self.start()
                return True
        return self.process.poll() is None


def _keep(case: str, folder: Path) -> Path | None:
    """The damaged file of a case."""
    sys.path[:0] = [str(HERE), str(HERE.parents[1])]
    from fuzz_case import Case, damaged
    from fuzz_mutations import Edit
    from fuzz_targets import TARGETS

    if not case.startswith("Case("):
        return None
    found = eval(case, {"Case": Case, "Edit": Edit})  # what a worker of ours wrote
    target = next(one for one in TARGETS if one.name == found.target)
    shutil.rmtree(folder, ignore_errors=True)
    return damaged(target, found, folder)


def main() -> int:
    """Run workers and print what they found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("results/logs/fuzz"))
    parser.add_argument("--worker", type=Path)
    parser.add_argument("--until", type=float, default=0.0)
    parser.add_argument("targets", nargs="*")
    options = parser.parse_args()
    if options.worker:
        worker(options.worker, options.targets, options.until)
        return 0
    shutil.rmtree(options.out, ignore_errors=True)
    until = time.time() + 60 * options.minutes
    watched = [Watched(options.out / f"worker{k}", options.targets, until) for k in range(options.workers)]
    going = watched
    while going:
        time.sleep(0.5)
        going = [one for one in going if one.look()]
    counts: Counter[tuple[str, str]] = Counter()
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for one in watched:
        log = one.folder / "log.jsonl"
        lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
        for row in [*map(json.loads, lines), *one.lost]:
            counts[row["target"], row["kind"]] += 1
            if row["kind"] == "other":
                found.setdefault((row["target"], row["error"]), row)
    for number, ((target, error), row) in enumerate(sorted(found.items())):
        print(f"\n--- {target}: {error}\n{row['case']}\n{row['text']}")
        try:
            print(f"the file: {_keep(row['case'], options.out / f'case{number}')}")
        except Exception as problem:
            print(f"the file cannot be made again: {problem}")
    kinds = ("right", "typed", "other")
    print(f"\n{'':22}{'tried':>8}" + "".join(f"{kind:>8}" for kind in kinds))
    names = sorted({target for target, _ in counts})
    for name in (*names, "all"):
        row_of = [sum(n for (t, k), n in counts.items() if name in (t, "all") and k == kind) for kind in kinds]
        print(f"{name:22}{sum(row_of):8}" + "".join(f"{count:8}" for count in row_of))
    return 1 if found or not names else 0


if __name__ == "__main__":
    sys.exit(main())
