from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest

from bevkd.config import DataConfig, load_run
from bevkd.data import FrameDataset
from bevkd.data.index import FRAMES, STAMP_KEY, FrameIndex, read_stamp
from bevkd.data.nuscenes.names import scene_splits
from bevkd.distill.sizes import expected_entries
from bevkd.errors import ConfigError, DataError
from bevkd.eval.nuscenes.splits import official_splits, split_scenes
from bevkd.report.counts import count
from bevkd.report.splits import require_split, splits_read
from bevkd.splits import evaluated_as, split_names


def test_index_and_metrics_hold_out_the_same_scenes(tmp_path: Path) -> None:
    (tmp_path / "v1.0-trainval").mkdir()
    splits = scene_splits(tmp_path, "v1.0-trainval")
    assert split_scenes(tmp_path, "v1.0-trainval", "tune")[0] == splits["tune"]
    assert split_scenes(tmp_path, "v1.0-trainval", "val")[0] == splits["val"]
    assert len(splits["tune"]) == 70
    assert sorted(splits["train"] + splits["tune"]) == sorted(official_splits()["train"])
    assert not set(splits["tune"]) & set(splits["val"])


def test_train_and_tune_together_are_the_official_training_scenes(tmp_path: Path) -> None:
    (tmp_path / "v1.0-trainval").mkdir()
    scenes, official = split_scenes(tmp_path, "v1.0-trainval", "train+tune")
    assert official
    assert len(scenes) == 700
    assert set(scenes) == set(official_splits()["train"])
    with pytest.raises(ConfigError, match=r"'tun'.*did you mean 'tune'"):
        split_scenes(tmp_path, "v1.0-trainval", "train+tun")


def test_an_index_of_the_official_tables_is_evaluated_on_its_own_scenes(tmp_path: Path) -> None:
    (tmp_path / "v1.0-trainval").mkdir()
    held = scene_splits(tmp_path, "v1.0-trainval")
    for split in ("train", "tune", "val"):
        named = evaluated_as("v1.0-trainval", split)
        assert split_scenes(tmp_path, "v1.0-trainval", named)[0] == held[split]
    both = split_scenes(tmp_path, "v1.0-trainval", evaluated_as("v1.0-trainval", "train+tune"))[0]
    assert set(both) == set(split_scenes(tmp_path, "v1.0-trainval", "train")[0])
    assert evaluated_as("v1.0-sim", "train") == "train"


def test_the_published_rows_use_all_training_scenes() -> None:
    assert load_run("camera_base", "paper", 0).data.train_split == "train+tune"
    assert load_run("tune_lidar_lr_half", "paper", 0).data.train_split == "train", "its table reads the tune split"
    assert load_run("kitti_lidar", "paper", 0).data.train_split == "train", "of which nothing is held out"
    assert load_run("camera_base", "sim", 0).data.train_split == "train"


@pytest.mark.parametrize("split", ["", "train+", "+train", "train++tune", "train+train"])
def test_an_expression_that_is_none(split: str) -> None:
    with pytest.raises(ConfigError, match="split"):
        split_names(split)


def test_an_expression_is_read_everywhere(smoke_dataset: Any) -> None:
    run = load_run("lidar_base", "smoke", 0)
    data = replace(run.data, root=str(smoke_dataset.root), index=str(smoke_dataset.index), train_split="train+tune")
    parts = [FrameIndex.open(data.index, split) for split in ("train", "tune")]
    both = FrameIndex.open(data.index, "train+tune")
    tokens = [token for part in parts for token in part.columns["token"]]
    assert sorted(both.columns["token"]) == sorted(tokens)
    frames = FrameDataset(data, run.model, data.train_split, train=True, seed=0, labelled_subset=-1)
    assert sorted(frames.tokens) == sorted(tokens)
    counts = count(data).splits
    assert set(counts) == {"train", "tune", "val"}
    assert counts["tune"]["frames"] == len(parts[1])
    limited = replace(run, data=data, row=replace(run.row, labelled_subset=-1), train=replace(run.train, steps=10_000))
    assert expected_entries(limited)[0][0] == pytest.approx(len(tokens) * data.augment.variants, rel=1e-3)
    scenes, _ = split_scenes(smoke_dataset.root, smoke_dataset.version, "train+tune")
    assert set(scenes) == set(both.columns["scene_name"])


def test_a_name_does_not_hold_what_joins_names(tmp_path: Path) -> None:
    (tmp_path / "v1.0-own").mkdir()
    (tmp_path / "v1.0-own" / "splits.json").write_text('{"train+more": ["scene-1"]}')
    with pytest.raises(DataError, match=r"must not hold a \+.*train\+more"):
        scene_splits(tmp_path, "v1.0-own")


def test_what_is_trained_on_is_not_held_out() -> None:
    data = DataConfig(train_split="train+tune")
    assert data.split("report") == "val"
    with pytest.raises(ConfigError, match=r"data\.train_split 'train\+tune' holds tune"):
        data.split("tune")
    with pytest.raises(ConfigError, match="holds val"):
        replace(data, train_split="train+val").split("report")
    with pytest.raises(ConfigError, match=r"holds train: .* nothing as the split of a table or figure"):
        data.split("train")


def test_tables_name_the_roles_of_splits_or_any_split_by_its_own_name() -> None:
    data = DataConfig(tune_split="mini_val", report_split="test")
    assert [data.split(which) for which in ("report", "tune", "conditions")] == ["test", "mini_val", "conditions"]
    items = [SimpleNamespace(split=split) for split in ("tune", "conditions", "report", "val+more")]
    assert splits_read([data, DataConfig()], [*items, SimpleNamespace()]) == [
        *("conditions", "mini_val", "test", "tune", "val", "val+more")
    ]


def test_a_split_that_a_data_set_lacks_is_known_before_anything_is_trained(smoke_dataset: Any, tmp_path: Path) -> None:
    """From the index; without one, of a simulated data set; real data may hold anything."""
    run = load_run("lidar_base", "smoke", 0)
    own = replace(run.data, root=str(smoke_dataset.root), index=str(smoke_dataset.index))
    require_split(own, "conditions", "smoke")
    require_split(own, "tune+conditions", "smoke")
    with pytest.raises(ConfigError, match=r"index .* has no split 'condition' .did you mean 'conditions'\?") as caught:
        require_split(own, "val+condition", "smoke")
    assert "it has: conditions, train, tune, val" in str(caught.value)

    planned = replace(run.data, index=str(tmp_path / "none"))
    require_split(planned, "conditions", "smoke")
    with pytest.raises(ConfigError, match=r"data/nuscenes_sim/smoke as it is simulated has no split 'rain'.*; it has:"):
        require_split(planned, "rain", "smoke")
    kitti = replace(load_run("kitti_lidar", "smoke", 0).data, index=str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="no split 'conditions'; it has: train, tune, val"):
        require_split(kitti, "conditions", "smoke")
    require_split(replace(planned, root="data/mine"), "rain", "smoke")


def test_a_data_set_simulated_before_it_had_a_split_is_to_be_made_again(smoke_dataset: Any, tmp_path: Path) -> None:
    run = load_run("lidar_base", "smoke", 0)
    index = tmp_path / "index"
    index.mkdir()
    stamp = read_stamp(smoke_dataset.index)
    schema = FRAMES.with_metadata({STAMP_KEY: json.dumps(stamp | {"splits": ["train", "tune", "val"]}).encode()})
    pq.write_table(schema.empty_table(), index / "frames.parquet")
    old = replace(run.data, index=str(index))
    with pytest.raises(ConfigError, match=r"has: train, tune, val\. data/nuscenes_sim/smoke was simulated before"):
        require_split(old, "conditions", "smoke")
    require_split(old, "conditions", "smoke", indexed=False)  # both are about to be made again
    with pytest.raises(ConfigError, match=r"has: train, tune, val$"):
        require_split(replace(old, root="data/mine"), "conditions", "smoke")
    (index / "frames.parquet").write_text("damaged")
    require_split(old, "conditions", "smoke")  # not a word on what is not known
