"""Kill commands and workflows at random times, resume them, and compare with what is made without a kill: `make chaos`.

The same seed and victims draw the same kills again, as shares of what they take here; `--only N` repeats one of them.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from chaos_case import EQUAL, OTHER, TYPED_ERROR, World, drawn, keep, kinds, outcome, victims


def main() -> int:
    """Kill, and print what became of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    parser.add_argument("--only", type=int, metavar="N", help="the kill of this number alone")
    parser.add_argument("--cores", help="of the workflows; default: as documented, all")
    parser.add_argument("--keep", action="store_true", help="keep the folder in which it happened")
    parser.add_argument("victims", nargs="*", metavar="VICTIM", help=f"default: all of {', '.join(kinds())}")
    options = parser.parse_args()
    if not Path("/proc/self/environ").exists():
        parser.error("processes that a kill has orphaned are found through /proc, which is not there")
    among = [kind for kind in kinds() if not options.victims or any(kind.startswith(name) for name in options.victims)]
    if not among:
        parser.error(f"no such victims: {' '.join(options.victims)}")
    world = World(Path(tempfile.mkdtemp(prefix="bevkd-chaos-")), options.cores)
    print(f"seed {options.seed}, in {world.folder}", flush=True)
    counts: Counter[tuple[str, str]] = Counter()
    try:
        for number in range(options.kills) if options.only is None else [options.only]:
            kill = drawn(options.seed, number, among)
            victim = victims()[kill.victim]
            found = outcome(world, kill)
            span = world.duration(victim)
            counts[victim.kind, found.kind] += 1
            when = f"killed after {found.after:6.2f} s of {span:6.2f}: {found.hit}"
            resumed = "hours later" if kill.later else "at once"
            print(f"{number:4} {kill.victim:20} {when}; resumed {resumed}: {found.kind}", flush=True)
            for line in found.words:
                print(f"     {line}", flush=True)
            if found.kind == OTHER:
                options.keep = True
                keep(world, victim, world.folder / "failed" / str(number))
                print(f"     what it left: {world.folder / 'failed' / str(number)}", flush=True)
    finally:
        world.orphans()
        if not options.keep:
            shutil.rmtree(world.folder)
    outcomes = (EQUAL, TYPED_ERROR, OTHER)
    print(f"\n{'':22}{'tried':>8}" + "".join(f"{name:>8}" for name in outcomes))
    for row in [*(kind for kind in kinds() if any(kind == one for one, _ in counts)), "all"]:
        numbers = [sum(n for (kind, name), n in counts.items() if row in (kind, "all") and name == o) for o in outcomes]
        print(f"{row:22}{sum(numbers):8}" + "".join(f"{number:8}" for number in numbers))
    return 1 if any(name == OTHER for _, name in counts) else 0


if __name__ == "__main__":
    sys.exit(main())
