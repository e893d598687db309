"""Weights that a training starts from: those of another run, whole or in parts (`init` of a row)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from bevkd.config import RunConfig, run_dir
from bevkd.config.training import WHOLE, InitConfig
from bevkd.errors import ConfigError, nearest
from bevkd.hints import how_to_train
from bevkd.train.checkpoint import MODEL, other_shapes, read_model, shortened, weights_digest
from bevkd.train.parts import covers, known_parts
from bevkd.train.teacher import runs_root

logger = logging.getLogger(__name__)


class MisfitError(ConfigError):
    """Weights to start from that do not fit the network; the message names the first few parameters."""


@dataclass(frozen=True)
class Start:
    """Trained weights of another run.

    Attributes:
        weights: by name, on the CPU.
        digest: of all of them, see `weights_digest`.
        where: their file, for messages.
    """

    weights: dict[str, Tensor]
    digest: str
    where: str


def read_starts(run: RunConfig, out: Path) -> tuple[Start, ...]:
    """The weights that a run starts from, one for each of its `inits`; none where it starts from its seed alone.

    Raises:
        ConfigError: they are not trained yet.
        CheckpointError: they are unreadable.
    """
    return tuple(_read(run, init, out) for init in run.row.inits)


def _read(run: RunConfig, init: InitConfig, out: Path) -> Start:
    seed = run.row.init_seed_for(init, run.seed)
    path = run_dir(init.run, run.scale, seed, runs_root(out)) / MODEL
    if not path.exists():
        how = how_to_train(init.run, run.scale, seed, runs_root(out))
        raise ConfigError(f"run {run.run!r} starts from run {init.run!r}, which is not trained yet: no {path}{how}")
    weights = read_model(path)["model"]
    return Start(weights, weights_digest(weights), str(path))


def digest_of(starts: Sequence[Start]) -> str:
    """Digest of all that a run starts from, "" for nothing."""
    return "+".join(start.digest for start in starts)


def apply_starts(
    network: nn.Module, starts: Sequence[Start], inits: Sequence[InitConfig]
) -> dict[str, Any] | list[dict[str, Any]]:
    """Copy parts of trained weights of one or more runs into a network.

    Returns:
        What `apply_start` returns, of one run; a list of that, of several.

    Raises:
        MisfitError: as `apply_start`; or two runs have the same parameter.
    """
    records = [apply_start(network, start, init.parts, init.fresh) for start, init in zip(starts, inits, strict=True)]
    seen: dict[str, str] = {}
    for record in records:
        if twice := [name for name in record["taken"] if name in seen]:
            raise MisfitError(f"init: {shortened(twice)} of both {seen[twice[0]]} and {record['from']}")
        seen |= dict.fromkeys(record["taken"], record["from"])
    return records[0] if len(records) == 1 else records


def apply_start(
    network: nn.Module, start: Start, parts: tuple[str, ...], fresh: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Copy parts of trained weights into a network.

    Args:
        network: the student.
        start: where its weights come from.
        parts: see `bevkd.train.parts`; `all` for the whole network.
        fresh: parts of the network that are not in these weights and keep the values that they have.

    Returns:
        What was taken and what was not, for `init.json`.

    Raises:
        MisfitError: a part that one of the two networks lacks, or parameters of other names or shapes in it; a fresh
            part that the network lacks, or that the weights do have.
    """
    own = network.state_dict()
    chosen, problems = [], []
    added = set[str]()
    for part in fresh:
        if not (mine := _within(part, own)):
            raise MisfitError(f"init.fresh: the network has no part {part!r}{nearest(part, known_parts(own))}")
        problems += [f"{name} is no fresh parameter, it is there" for name in _within(part, start.weights)]
        added |= set(mine)
    for part in parts:
        mine, theirs = [name for name in _within(part, own) if name not in added], _within(part, start.weights)
        if not mine:
            raise MisfitError(f"init.parts: the network has no part {part!r}{nearest(part, known_parts(own))}")
        problems += [f"{name} is missing there" for name in mine if name not in start.weights]
        problems += [f"{name} is unknown here" for name in theirs if name not in own]
        problems += other_shapes(own, start.weights, mine)
        chosen += mine
    if problems:
        raise MisfitError(f"{start.where} does not fit (parts: {', '.join(parts)}): {shortened(problems)}")
    taken = list(dict.fromkeys(chosen))
    network.load_state_dict({name: start.weights[name] for name in taken}, strict=False)
    left = [name for name in own if name not in set(taken)]
    unused = [name for name in start.weights if name not in set(taken)]
    logger.info(
        "started from %s: %d of %d tensors taken (%s), %d keep their fresh values, %d were not used",
        *(start.where, len(taken), len(own), ", ".join(parts), len(left), len(unused)),
    )
    return {
        "from": start.where,
        "digest": start.digest,
        "parts": list(parts),
        "values": sum(own[name].numel() for name in taken),
        "taken": taken,
        "fresh": left,
        "unused": unused,
    }


def _within(part: str, names: dict[str, Tensor]) -> list[str]:
    return [name for name in names if part == WHOLE or covers(part, name)]
