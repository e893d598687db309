"""What surrounds the loop: devices and processes, thread and determinism settings, locks, signals."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from filelock import FileLock, Timeout
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from lightning_fabric.plugins.precision import MixedPrecision, Precision
from lightning_fabric.strategies import DDPStrategy

from bevkd.config import TrainConfig
from bevkd.errors import ConfigError
from bevkd.io import check_output_folder, writing
from bevkd.processor import processor
from bevkd.provenance import provenance
from bevkd.train.optim import resolve_precision, thread_count

logger = logging.getLogger(__name__)


class Autocast(MixedPrecision):
    """Mixed precision by autocast alone: operations choose their precision, inputs arrive as they are.

    Fabric's own casts every floating tensor of a batch before the step. bfloat16 keeps eight bits: a point at 20 m
    would be moved by up to 6 cm, a focal length of 1,260 pixels by up to 4, and a live teacher would see other points
    than one whose targets are stored.
    """

    def convert_input(self, data: Any) -> Any:
        """The same."""
        return data


def precision_plugin(config: TrainConfig, device_type: str) -> Precision:
    """How Fabric is to compute.

    Raises:
        ConfigError: as `resolve_precision`.
    """
    name = resolve_precision(config.precision, device_type)
    return Precision() if name == "32-true" else Autocast(name, device_type)


def build_fabric(config: TrainConfig) -> Fabric:
    """One process on one device, or, under torchrun, DDP over all its processes (gloo on CPU, NCCL on GPU)."""
    device_type = "cuda" if torch.cuda.is_available() else "cpu"
    precision = precision_plugin(config, device_type)
    if not TorchElasticEnvironment.detect():
        # Named, because a single job inside a SLURM allocation must not look for its siblings.
        return Fabric(accelerator=device_type, devices=1, plugins=[LightningEnvironment(), precision])
    local, world = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
    # Some parameters have no gradient in some steps, such as those of an encoder whose sensor saw nothing.
    strategy = DDPStrategy(find_unused_parameters=True)
    fabric = Fabric(
        accelerator=device_type,
        strategy=strategy,
        devices=local,
        num_nodes=world // local,
        plugins=[TorchElasticEnvironment(), precision],
    )
    fabric.launch()
    return fabric


def training_provenance(config: TrainConfig, fabric: Fabric) -> dict[str, Any]:
    """By which code and on what a training runs, see `bevkd.provenance`, on which device and in which precision."""
    return provenance() | training_conditions(config, fabric)


def training_conditions(config: TrainConfig, fabric: Fabric) -> dict[str, Any]:
    """What changes the last bits of a step, although it is no setting of the run that makes it another one."""
    cuda = fabric.device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(fabric.device) if cuda else processor(),
        "processes": fabric.world_size,
        "precision": resolve_precision(config.precision, fabric.device.type),
        "threads": config.threads,
        "torch": str(torch.__version__),
    }


@contextmanager
def torch_settings(config: TrainConfig) -> Iterator[None]:
    """Thread count and deterministic kernels of a training; what was set before comes back afterwards."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    memory: Any = torch.utils.deterministic
    fill = memory.fill_uninitialized_memory
    if not torch.cuda.is_available():  # on a GPU this would cost speed
        torch.use_deterministic_algorithms(True, warn_only=True)
        memory.fill_uninitialized_memory = False  # a debugging aid that costs time
    try:
        with thread_count(config.threads):
            yield
    finally:
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        memory.fill_uninitialized_memory = fill


@contextmanager
def exclusive(out: Path) -> Iterator[None]:
    """Keep a second process from training into the same folder; the lock of a killed process is free.

    Raises:
        ConfigError: another process holds it.
    """
    if int(os.environ.get("RANK", "0")) > 0:
        yield
        return
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    check_output_folder(out)
    lock = FileLock(out / ".lock", timeout=0)
    with writing(out / ".lock"):
        try:
            lock.acquire()
        except Timeout:  # which is an OSError, too
            raise ConfigError(f"another process is training into {out}") from None
    try:
        yield
    finally:
        lock.release()


class StopRequest:
    """Turns SIGINT and SIGTERM into a wish that the loop reads between two steps; a second SIGINT stops at once."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, object] = {}

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number
        logger.warning("signal %d: will write a checkpoint and stop", number)

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():  # Python delivers signals to it alone
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def agreed(self, fabric: Fabric) -> bool:
        """Whether any process was asked to stop; all of them get the same answer."""
        if fabric.world_size == 1:
            return self.signal is not None
        wish = torch.tensor(float(self.signal is not None), device=fabric.device)
        wishes = fabric.all_reduce(wish, reduce_op="sum")
        assert isinstance(wishes, torch.Tensor)
        return bool(wishes > 0)
