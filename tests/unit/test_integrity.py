"""Models, checkpoints, caches: equal content is equal bytes, and a bit that fell over is noticed or changes nothing."""

from __future__ import annotations

import copy
import json
import logging
import random
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from distill_data import Frames, ToyTeacher, collate
from torch import nn

from bevkd.config import MethodConfig, load_run
from bevkd.config.schema import RunConfig
from bevkd.data.paste import LabelledCloud, build_paste_database, is_whole
from bevkd.data.sample import Sample
from bevkd.data.store import SampleStore
from bevkd.distill import TeacherCache, build_cache, method_settings
from bevkd.distill.cache_build import all_entries
from bevkd.distill.cache_part import CachePart, DamagedCacheError
from bevkd.errors import CheckpointError, DataError, OtherRunError
from bevkd.io import file_digest
from bevkd.models.detector import build_detector
from bevkd.train import archive
from bevkd.train.archive import DamagedError, pack, unpack
from bevkd.train.checkpoint import content_digest, load_checkpoint, read_model, save_checkpoint, save_model
from bevkd.train.optim import check_state
from bevkd.train.teacher import is_digest_of


def flipped(content: bytes, rng: random.Random) -> bytes:
    out = bytearray(content)
    bit = rng.randrange(len(out) * 8)
    out[bit // 8] ^= 1 << bit % 8
    return bytes(out)


def network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 2))


def state_of(net: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """A checkpoint of a training."""
    words = {"version": "1", "torch": "2", "config": "{}", "teacher": "", "init": "", "step": 4}
    adapters = {"half": torch.ones(3, dtype=torch.bfloat16), "none": torch.zeros(0)}
    window = {"steps": 2, "sums": {"total": torch.tensor(0.5, dtype=torch.float64)}}
    state = {"model": net.state_dict(), "adapters": adapters, "optimizer": optimizer.state_dict(), "precision": {}}
    return words | state | {"window": window}


def checkpoint() -> dict[str, Any]:
    net = network()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)
    net(torch.ones(3, 6)).sum().backward()
    optimizer.step()
    return state_of(net, optimizer)


def test_equal_content_is_equal_bytes() -> None:
    one = checkpoint()
    content = bytes(pack(one))
    assert bytes(pack(unpack(content))) == content
    other = copy.deepcopy(one)
    other["teacher"] = "".join(["a", "b"])[:0]
    other["config"] = "".join(["{", "}"])
    large = torch.zeros(100)  # a view of something larger is no other content
    large[7:12] = one["model"]["0.bias"]
    other["model"]["0.bias"] = nn.Parameter(large[7:12])
    assert bytes(pack(other)) == content
    other["step"] = 5
    assert bytes(pack(other)) != content


def test_tensors_that_share_are_as_those_that_do_not() -> None:
    shared = torch.arange(4.0)
    together = bytes(pack({"a": shared, "b": shared}))
    assert together == bytes(pack({"a": shared.clone(), "b": shared.clone()}))


def test_every_bit_of_a_file_of_tensors_counts() -> None:
    content, rng, noticed = bytes(pack(checkpoint())), random.Random(0), 0
    for _ in range(600):
        try:
            found = unpack(flipped(content, rng))
        except DamagedError:
            noticed += 1
        else:
            assert bytes(pack(found)) == content
    assert noticed > 300  # the others are zeros between the parts and what archives say of themselves
    for length in (0, 10, len(content) // 2, len(content) - 1):
        with pytest.raises(DamagedError):
            unpack(content[:length])


def test_arrays_have_sums_of_their_own(tmp_path: Path) -> None:
    content = bytes(pack(checkpoint()))
    (tmp_path / "a.pt").write_bytes(content)
    held = torch.load(tmp_path / "a.pt", weights_only=True)
    held["model"]["0.weight"][2, 3] += 1  # by a program that also writes the archive anew
    torch.save(held, tmp_path / "a.pt")
    with pytest.raises(DamagedError, match=r"model/0\.weight is another"):
        unpack((tmp_path / "a.pt").read_bytes())
    del held["model"]["0.weight"]
    torch.save(held, tmp_path / "a.pt")
    with pytest.raises(DamagedError, match=r"model/0\.weight is missing"):
        unpack((tmp_path / "a.pt").read_bytes())


def test_what_is_no_plain_array_is_refused(tmp_path: Path) -> None:
    values = {
        "larger than it is": torch.zeros(1).expand(1 << 40),
        "sparse": torch.eye(3).to_sparse(),
        "without content": torch.zeros(3, device="meta"),
    }
    for value in values.values():
        torch.save({"model": {"a": value}}, tmp_path / "a.pt")
        with pytest.raises(DamagedError, match="no plain array"):
            unpack((tmp_path / "a.pt").read_bytes())


def test_what_is_compressed_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("archive/data.pkl", bytes(1000))
    with pytest.raises(DamagedError, match="not a file of bevkd"):
        unpack((tmp_path / "a.pt").read_bytes())


@pytest.fixture(scope="module")
def run() -> RunConfig:
    return load_run("lidar_base", "smoke", 0)


def small_model(folder: Path, run: RunConfig) -> Path:
    """A `model.pt` of few weights, which are no detector's."""
    folder.mkdir(parents=True, exist_ok=True)
    return save_model(folder, dict(network().state_dict()), run, 4, "")


def test_a_model_that_is_made_again_is_the_same_file(tmp_path: Path, run: RunConfig) -> None:
    folders = [tmp_path / "one", tmp_path / "another" / "place"]
    one, other = (small_model(folder, run) for folder in folders)
    assert one.read_bytes() == other.read_bytes()
    assert content_digest(one) == content_digest(other)
    busier = replace(run, train=replace(run.train, workers=7))
    assert content_digest(small_model(tmp_path / "busy", busier)) == content_digest(one)
    slower = replace(run, train=replace(run.train, lr=run.train.lr / 2))
    assert content_digest(small_model(tmp_path / "slow", slower)) != content_digest(one)


def test_digests_of_files_still_name_their_teacher(tmp_path: Path, run: RunConfig) -> None:
    path = small_model(tmp_path, run)
    now = content_digest(path)
    assert is_digest_of(now, now, path)
    assert is_digest_of(file_digest(path), now, path)
    assert not is_digest_of("0" * 64, now, path)
    assert not is_digest_of("", now, path)


def test_a_damaged_model_names_the_command_that_makes_it_again(tmp_path: Path, run: RunConfig) -> None:
    runs, rng = tmp_path / "runs", random.Random(1)
    path = small_model(runs / "smoke" / "lidar_base" / "seed3", run)
    shot = small_model(path.parent / "snapshots" / "1of4", run)
    content, good, noticed = path.read_bytes(), read_model(path), 0
    command = rf"`bevkd train --run lidar_base --scale smoke --seed 3 --runs {runs} --restart`"
    for _ in range(200):
        damaged = flipped(content, rng)
        path.write_bytes(damaged)
        shot.write_bytes(damaged)
        try:
            found = read_model(path)
        except CheckpointError:
            noticed += 1
            for one in (path, shot):
                with pytest.raises(CheckpointError, match=command):
                    read_model(one)
        else:
            assert bytes(pack(found)) == bytes(pack(good))
    assert noticed > 100
    alone = tmp_path / "model.pt"
    alone.write_bytes(content[:-9])
    with pytest.raises(CheckpointError, match="cannot be read as a model: it is damaged") as caught:
        read_model(alone)
    assert "bevkd train" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s["model"]["0.weight"].fill_(torch.nan), r"weights are not finite: 0\.weight"),
        (lambda s: s["model"].update({"1.running_var": torch.full((5,), torch.inf)}), "not finite: 1.running_var"),
        (lambda s: s.pop("digest"), "lacks digest"),
        (lambda s: s.update(step="4"), "its step is none"),
        (lambda s: s["model"].update({"0.bias": 3.0}), "not all of model are arrays"),
    ],
)
def test_a_model_is_complete_and_finite(
    tmp_path: Path, run: RunConfig, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    path = small_model(tmp_path, run)
    state = read_model(path)
    change(state)
    path.write_bytes(pack(state))
    with pytest.raises(CheckpointError, match=message):
        read_model(path)


def test_models_of_older_versions_are_read_with_a_word(
    tmp_path: Path, run: RunConfig, caplog: pytest.LogCaptureFixture
) -> None:
    path = small_model(tmp_path, run)
    state = read_model(path)
    torch.save(state, path)  # as they were written
    archive._say_once.cache_clear()
    content, rng, noticed = path.read_bytes(), random.Random(2), 0
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert bytes(pack(read_model(path))) == bytes(pack(state))
    assert caplog.text.count("sums of their archives") + caplog.text.count("those of their archives") == 1
    for _ in range(100):
        path.write_bytes(flipped(content, rng))
        try:
            found = read_model(path)
        except CheckpointError:
            noticed += 1
        else:
            assert bytes(pack(found)) == bytes(pack(state))
    assert noticed > 50


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state, rng = checkpoint(), random.Random(4)
    save_checkpoint(tmp_path, state | {"step": 2})
    save_checkpoint(tmp_path, state | {"step": 4})
    found = load_checkpoint(tmp_path)
    assert found is not None
    assert found["step"] == 4
    content, steps = (tmp_path / "checkpoint.pt").read_bytes(), []
    for _ in range(100):
        (tmp_path / "checkpoint.pt").write_bytes(flipped(content, rng))
        found = load_checkpoint(tmp_path)
        assert found is not None
        steps.append(found["step"])
        assert bytes(pack(found)) == bytes(pack(state | {"step": found["step"]}))
    assert steps.count(2) > 50
    assert "unreadable checkpoint" in caplog.text
    (tmp_path / "checkpoint.prev.pt").write_bytes(b"")
    (tmp_path / "checkpoint.pt").write_bytes(content[1:])
    with pytest.raises(CheckpointError, match="--restart"):
        load_checkpoint(tmp_path)


OPTIMIZERS = [
    lambda p: torch.optim.AdamW(p, fused=True),
    lambda p: torch.optim.Adam(p, fused=False),
    lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    lambda p: torch.optim.SGD(p, lr=0.1),
]


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_the_state_of_an_optimiser_must_fit(make: Callable[[Any], torch.optim.Optimizer]) -> None:
    net = network()
    optimizer = make(net.parameters())
    check_state(optimizer, optimizer.state_dict(), "x")  # before the first step
    net(torch.ones(3, 6)).sum().backward()
    optimizer.step()
    before, right = copy.deepcopy(net.state_dict()), copy.deepcopy(optimizer.state_dict())
    check_state(optimizer, right, "x")
    assert str(net.state_dict()) == str(before)
    assert str(optimizer.state_dict()) == str(right)
    for name, value in right["state"].get(0, {}).items():
        other = torch.zeros(2, 2), torch.zeros(value.shape, dtype=torch.int64) if value is not None else torch.zeros(1)
        for bad in (*other, "1"):
            wrong = copy.deepcopy(right)
            wrong["state"][0][name] = bad
            with pytest.raises(OtherRunError, match=rf"parameter 0: {name} .*--restart"):
                check_state(optimizer, wrong, "x")
    changes: list[Callable[[Any], Any]] = [
        lambda s: s["param_groups"].pop(),
        lambda s: s["param_groups"][0]["params"].pop(),
        lambda s: s["param_groups"][0].pop("lr"),
        lambda s: s["state"].update({99: {}}),
        lambda s: s["state"].update({0: {"other": 1}}),
        lambda s: s["state"].update({0: None}),
        lambda s: s.pop("state"),
    ]
    for change in changes:
        wrong = copy.deepcopy(right)
        change(wrong)
        with pytest.raises(OtherRunError, match="state of another optimiser"):
            check_state(optimizer, wrong, "x")


TOKENS, LABELLED = ["t1", "t2", "t3"], np.array([True, False, True])
FRAMES = Frames(TOKENS, LABELLED, [2, 2, 2])


def make_cache(folder: Path, **options: Any) -> CachePart:
    """A cache of one part, and that part."""
    wanted = method_settings(MethodConfig("dense")).cached()
    settings: dict[str, Any] = {"teacher_digest": "abc", "collate": collate, "together": 2} | options
    torch.manual_seed(0)
    asked = settings.pop("asked", all_entries(FRAMES))
    (part,) = build_cache(wanted, ToyTeacher(), FRAMES, folder, asked, **settings).parts
    return part


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_cache_made_twice_is_the_same_files(tmp_path: Path) -> None:
    one, two = make_cache(tmp_path / "one"), make_cache(tmp_path / "two")
    assert one.folder.name == two.folder.name
    assert files_of(one.folder) == files_of(two.folder)


def test_every_bit_of_a_cache_counts(tmp_path: Path) -> None:
    cache = make_cache(tmp_path / "cache")
    cache.verify()
    files, rng, noticed = files_of(cache.folder), random.Random(5), 0
    for name, content in files.items():
        for _ in range(60):
            (cache.folder / name).write_bytes(flipped(content, rng))
            try:
                found = CachePart.open(cache.folder)
                found.verify()
            except DataError:
                noticed += 1
            else:
                for column in cache.manifest["rows"]:
                    for entry in range(len(cache.entries)):
                        np.testing.assert_array_equal(found.rows(column, entry), cache.rows(column, entry))
        (cache.folder / name).write_bytes(content)
    assert noticed > 40 * len(files)
    TeacherCache.open(tmp_path / "cache").verify()


def test_only_columns_that_are_read_are_verified(tmp_path: Path) -> None:
    part = make_cache(tmp_path / "cache")
    read, other = sorted(part.columns - {"boxes"})[:2]
    path = part.folder / f"{other}.npy"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    TeacherCache.open(tmp_path / "cache").verify([read])
    with pytest.raises(DamagedCacheError, match="its sum is another"):
        TeacherCache.open(tmp_path / "cache").verify([read, other])


def test_caches_of_older_versions_are_read_with_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = make_cache(tmp_path / "cache")
    (cache.folder / "sums.json").unlink()
    TeacherCache.open(tmp_path / "cache").verify()
    assert "from before there were sums" in caplog.text


@pytest.mark.parametrize("change", [{"rows": None}, {"tokens": 3}, {"labelled": None}, {"entries": "4"}, {"rows": {}}])
def test_a_manifest_that_says_nonsense_is_damaged(tmp_path: Path, change: dict[str, Any]) -> None:
    folder = make_cache(tmp_path / "cache").folder
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | change))
    with pytest.raises(DamagedCacheError):
        TeacherCache.open(folder.parent).verify()


def test_every_bit_of_a_stored_sample_counts(tmp_path: Path) -> None:
    rng, noticed = random.Random(6), 0
    store = SampleStore(tmp_path / "samples", "code", {"index": "i"}, 10**9)
    values = {"points": np.arange(40, dtype=np.float32).reshape(8, 5), "boxes": np.ones((2, 9), np.float32)}
    sample = Sample(
        token="t", variant=1, labelled=True, inputs=("lidar",), bev_aug=np.eye(4, dtype=np.float32),
        labels=np.array([1, 2]), **values,
    )  # fmt: skip
    store.write(sample)
    (path,) = (path for path in store.folder.iterdir() if path.name != "manifest.json")
    content = path.read_bytes()
    path.unlink()
    store.write(sample)
    assert path.read_bytes() == content
    for _ in range(400):
        path.write_bytes(flipped(content, rng))
        found = store.read("t", 1, True)
        if found is None:
            noticed += 1
            continue
        assert (found.token, found.variant, found.labelled, found.inputs) == ("t", 1, True, ("lidar",))
        for name in ("points", "boxes", "bev_aug", "labels"):
            held, expected = getattr(found, name), getattr(sample, name)
            assert held.dtype == expected.dtype
            np.testing.assert_array_equal(held, expected)
    assert noticed > 250


def test_a_damaged_paste_database_is_seen(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    boxes = np.array([[0, 0, 0, 2, 2, 2, 0, 0, 0], [5, 0, 0, 2, 2, 2, 0, 0, 0]], dtype=np.float64)
    points = np.repeat(np.concatenate([boxes[:, :3], np.ones((2, 2))], 1), 6, axis=0).astype(np.float32)
    cloud = LabelledCloud("t", points, boxes, np.array([0, 1]))
    folder, again = (build_paste_database([cloud], tmp_path / name) for name in ("one", "two"))
    assert files_of(folder) == files_of(again)
    assert is_whole(folder)
    assert not is_whole(tmp_path / "none")
    assert not caplog.text
    rng = random.Random(7)
    for name, content in files_of(folder).items():
        for _ in range(40):
            (folder / name).write_bytes(flipped(content, rng))
            assert not is_whole(folder)
        (folder / name).write_bytes(content)
    assert "is made anew" in caplog.text
    assert is_whole(folder)
    build_paste_database([cloud], folder)  # in its place
    (folder / "sums.json").unlink()
    assert is_whole(folder)
    assert "from before there were sums" in caplog.text


def test_weights_of_every_kind_survive(run: RunConfig) -> None:
    weights = build_detector(run.model).state_dict()
    found = unpack(bytes(pack({"model": weights})))["model"]
    assert list(found) == list(weights)
    assert all(torch.equal(found[name], weights[name]) for name in weights)
    assert not archive.not_finite(found)
