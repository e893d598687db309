"""Optimiser with its parameter groups, rates of a step, precision and threads."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from bevkd.config import TrainConfig
from bevkd.config.training import Timeline
from bevkd.errors import ConfigError, OtherRunError, nearest
from bevkd.processor import cpu_has_bf16
from bevkd.train.optimizers.base import OptimizerSettings
from bevkd.train.parts import covers, known_parts

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
_PRECISION: dict[str, Precision] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
_FACTOR = "lr_factor"  # key of a parameter group


def scaled_lr(config: TrainConfig) -> float:
    """`train.lr`, scaled linearly with the global batch when a reference batch is given."""
    return config.lr * (config.batch_size / config.reference_batch if config.reference_batch > 0 else 1.0)


def build_optimizer(named: Iterable[tuple[str, nn.Parameter]], config: TrainConfig) -> Optimizer:
    """The optimiser that a run asks for.

    Args:
        named: parameters by name, those of the student as `detector.<name>` or bare, those of a method's adapters as
            `engine.<name>`.
        config: of the training.

    Raises:
        ConfigError: nothing is trainable, or a parameter group matches nothing.
    """
    trainable = {_bare(name): p for name, p in named if p.requires_grad}
    if not trainable:
        raise ConfigError("the model has no trainable parameter")
    # Under float16 the gradients are unscaled before clipping, which a fused step would do a second time.
    fused = config.precision != "fp16"
    optimizer: Optimizer = config.optimizer.build(_groups(trainable, config.optimizer), scaled_lr(config), fused)
    return optimizer


def _bare(name: str) -> str:
    """The name of a parameter as parts are called: without the detector, adapters below `adapters`."""
    return f"adapters.{name.removeprefix('engine.')}" if name.startswith("engine.") else name.removeprefix("detector.")


def _groups(parameters: dict[str, nn.Parameter], settings: OptimizerSettings) -> list[dict[str, Any]]:
    """Parameters by (factor of the learning rate, weight decay), in the order of the network.

    Raises:
        ConfigError: a group matches no parameter.
    """
    for group in settings.groups:
        if not group.optional and not any(covers(group.match, name) for name in parameters):
            known = known_parts(parameters)
            raise ConfigError(f"train.optimizer.groups: nothing is called {group.match!r}{nearest(group.match, known)}")
    out: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in parameters.items():
        own = next((group for group in settings.groups if covers(group.match, name)), None)
        decay = settings.weight_decay if own is None or own.weight_decay is None else own.weight_decay
        if _kind(name, parameter) in settings.no_decay:
            decay = 0.0
        factor = 1.0 if own is None else own.lr_factor
        same = out.setdefault((factor, decay), {"params": [], "weight_decay": decay, _FACTOR: factor})
        same["params"].append(parameter)
    return list(out.values())


def _kind(name: str, parameter: nn.Parameter) -> str:
    if name.rpartition(".")[2] == "bias":
        return "bias"
    return "norm" if parameter.ndim <= 1 else "weight"


def check_state(optimizer: Optimizer, state: dict[str, Any], where: str) -> None:
    """Whether the state of an optimiser is one of these parameters: torch takes it as it is, and fused kernels too.

    Raises:
        OtherRunError: other groups, or arrays of other names, shapes or types than a step of this optimiser makes.
    """
    try:
        problem = _misfit(optimizer, state)
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        problem = f"{type(error).__name__}: {error}"
    if problem:
        raise OtherRunError(f"{where}: state of another optimiser ({problem}); use --restart to begin anew")


def _misfit(optimizer: Optimizer, state: dict[str, Any]) -> str:
    own = optimizer.state_dict()
    if len(own["param_groups"]) != len(state["param_groups"]):
        return "number of groups"
    for mine, theirs in zip(own["param_groups"], state["param_groups"], strict=True):
        if mine["params"] != theirs["params"]:
            return "parameters of a group"
        if mine.keys() != theirs.keys():
            return f"settings of a group: {', '.join(sorted(mine.keys() ^ theirs.keys()))}"
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    usual: dict[torch.Size, dict[str, Any]] = {}
    for at, held in state["state"].items():
        shape = parameters[at].shape
        if shape not in usual:
            usual[shape] = _first_state(optimizer, shape)
        if found := _other_state(usual[shape], held):
            return f"parameter {at}: {found}"
    return ""


def _other_state(usual: dict[str, Any], held: dict[str, Any]) -> str:
    if held.keys() != usual.keys():
        return f"has {', '.join(map(str, held))}, not {', '.join(usual)}"
    for name, expected in usual.items():
        value = held[name]
        if isinstance(expected, Tensor) != isinstance(value, Tensor):
            return f"{name} is of another type"
        if isinstance(value, Tensor) and value.shape != expected.shape:
            return f"{name} has shape {tuple(value.shape)}, not {tuple(expected.shape)}"
        if isinstance(value, Tensor) and value.is_floating_point() != expected.is_floating_point():
            return f"{name} has type {value.dtype}, not {expected.dtype}"
    return ""


def _first_state(optimizer: Optimizer, shape: torch.Size) -> dict[str, Any]:
    """What such an optimiser remembers of a parameter after a step."""
    parameter = nn.Parameter(torch.zeros(shape))
    parameter.grad = torch.zeros(shape)
    like = copy.copy(optimizer)  # whatever its constructor wants
    like.state = defaultdict(dict)
    like.param_groups = [optimizer.param_groups[0] | {"params": [parameter]}]
    like.step()
    return dict(like.state[parameter])


def set_schedule(optimizer: Optimizer, step: int, line: Timeline, config: TrainConfig) -> float:
    """Set learning rate and momentum of step `step` (from 0); returns the learning rate before groups change it."""
    lr = scaled_lr(config)
    for group in optimizer.param_groups:
        rates = config.schedule.rates(step, line, lr * group.get(_FACTOR, 1.0))
        group["lr"] = rates.lr
        config.optimizer.set_momentum(group, rates.dip)
    plain: float = config.schedule.rates(step, line, lr).lr
    return plain


@contextmanager
def thread_count(count: int) -> Iterator[None]:
    """Compute with so many threads; what was set before comes back afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def mixed(name: str, device_type: str) -> torch.autocast:
    """Context in which a network runs in a precision where Fabric does not see to it; may be entered repeatedly.

    Raises:
        ConfigError: as `resolve_precision`.
    """
    precision = resolve_precision(name, device_type)
    dtype = torch.float16 if precision == "16-mixed" else torch.bfloat16
    return torch.autocast(device_type, dtype=dtype, enabled=precision != "32-true")


def resolve_precision(name: str, device_type: str) -> Precision:
    """Fabric's name of a precision; "auto" is bfloat16 autocast where the hardware has it, else float32.

    Raises:
        ConfigError: float16 on a CPU.
    """
    if name == "auto":
        fast = torch.cuda.is_bf16_supported() if device_type == "cuda" else cpu_has_bf16()
        name = "bf16" if fast else "fp32"
    if name == "fp16" and device_type != "cuda":
        raise ConfigError("train.precision=fp16 needs a GPU; use bf16, fp32 or auto")
    return _PRECISION[name]
