from __future__ import annotations

from pathlib import Path

from bevkd.data.nuscenes.names import scene_splits
from bevkd.eval.nuscenes.splits import official_splits, split_scenes


def test_index_and_metrics_hold_out_the_same_scenes(tmp_path: Path) -> None:
    (tmp_path / "v1.0-trainval").mkdir()
    splits = scene_splits(tmp_path, "v1.0-trainval")
    assert split_scenes(tmp_path, "v1.0-trainval", "tune")[0] == splits["tune"]
    assert split_scenes(tmp_path, "v1.0-trainval", "val")[0] == splits["val"]
    assert len(splits["tune"]) == 70
    assert sorted(splits["train"] + splits["tune"]) == sorted(official_splits()["train"])
    assert not set(splits["tune"]) & set(splits["val"])
