"""The one real nuScenes keyframe: its annotations with noise as detections, against the devkit."""

from __future__ import annotations

import json

import numpy as np
import pytest
from eval_nuscenes_world import assert_same, devkit_metrics

from bevkd.eval.nuscenes import evaluate_files, load_ground_truth, make_boxes, write_submission

pytest.importorskip("nuscenes", reason="the nuScenes devkit is the oracle")
pytestmark = pytest.mark.filterwarnings("ignore")


def noisy(gt, rng, noise, copies):
    seen = np.flatnonzero(gt.boxes.num_points)  # the others do not count as annotations
    boxes = gt.boxes.take(np.tile(seen, copies))
    n = len(boxes)
    return make_boxes(
        boxes.frame,
        boxes.translation + rng.normal(0, noise, (n, 3)),
        boxes.size * np.exp(rng.normal(0, noise / 5, (n, 3))),
        boxes.rotation + rng.normal(0, noise / 5, (n, 4)),
        rng.normal(0, 1, (n, 2)),
        boxes.label,
        score=np.round(rng.random(n), 1),
        attribute=rng.integers(-1, 8, n),
    )


@pytest.mark.parametrize("noise", [0.0, 0.3, 1.5])
def test_real_keyframe(shared_real, tmp_path, noise):
    source = shared_real / "nuscenes" / "v1.0-mini"
    (tmp_path / "v1.0-mini").symlink_to(source)  # the devkit writes beside the tables
    gt = load_ground_truth(tmp_path, "v1.0-mini", "mini_train")
    assert len(gt.tokens) == 1
    assert len(gt.boxes) == 68
    assert np.isnan(gt.boxes.velocity).all()
    results, out = tmp_path / "results.json", tmp_path / "metrics.json"
    write_submission(results, {gt.tokens[0]: noisy(gt, np.random.default_rng(3), noise, 1 if noise == 0 else 3)})
    metrics = evaluate_files(tmp_path, "v1.0-mini", "mini_train", results, out)
    summary, details = devkit_metrics(tmp_path, "v1.0-mini", "mini_train", results)
    written = json.loads(out.read_text())
    assert_same({key: written[key] for key in written if key not in ("meta", "frames", "warnings")}, summary)
    assert_same(metrics.details(), details)
    if noise == 0:
        found = [name for name, ap in metrics.mean_dist_aps.items() if ap > 0]
        assert len(found) >= 3
        assert all(metrics.mean_dist_aps[name] == pytest.approx(1.0) for name in found)
