# %% [markdown]
# # A first distillation
#
# Simulate a data set, train a LiDAR + camera teacher, a camera detector alone and the same one with its teacher,
# compare them and look at a frame. Cells are marked by `# %%`: VS Code, Spyder and Jupyter (with jupytext) open this
# file as a notebook, and `python docs/tutorial.py` runs it.
#
# `smoke` takes a minute or two, and its numbers mean nothing: the networks see a handful of frames for a dozen steps.
# With `sim`, the default scale, it takes about a quarter of an hour on one core, and its numbers are those of the
# tables, of one seed.

# %%
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import bevkd
from bevkd.config import load_run

SCALE = "smoke"
os.chdir(tempfile.mkdtemp(prefix="bevkd-tutorial-"))  # data and results go below the working directory
print("working in", Path.cwd())


def run(*words: str) -> None:
    """A command as on the command line: `bevkd train --run ...`."""
    print("$ bevkd", *words)
    subprocess.run([sys.executable, "-m", "bevkd", *words], check=True)


# %% [markdown]
# ## Data
#
# The simulator writes nuScenes tables and sensor files, as the real data set has them. `convert` indexes them: boxes,
# sensors and splits as Parquet, while images and points stay where they are. Real data are indexed by the same
# command. The second data set has single images with 2D labels; image backbones learn from it first.

# %%
for dataset, version in (("nuscenes", "v1.0-sim"), ("nuimages", None)):
    data, index = f"data/{dataset}_sim/{SCALE}", f"data/index/{dataset}_sim/{SCALE}"
    run("simulate", "--dataset", dataset, "--scale", SCALE, "--out", data)
    run("convert", "--dataset", dataset, "--root", data, *(("--version", version) if version else ()), "--out", index)

# %% [markdown]
# ## Training
#
# A run is a row of `config/papers/*/runs.yaml`: model, data set, teacher, method, and what it starts from.
# `image_weights` are those of image backbone and neck, which stand in for the ImageNet weights of the papers;
# `fusion_base` is a LiDAR + camera teacher, which also starts from the LiDAR detector `lidar_base`; `camera_base` is a
# camera detector; `camera_further` trains it for some further steps, and `dense_u` for as many with that teacher, also
# on frames without labels. Both start from the same weights and see the same labelled frames in the same order.
# What is trained too early says which command is missing.

# %%
for name in ("image_weights", "lidar_base", "fusion_base", "camera_base", "camera_further", "dense_u"):
    run("train", "--run", name, "--scale", SCALE)
for name in ("fusion_base", "camera_further", "dense_u"):
    run("predict", "--run", name, "--scale", SCALE, "--split", "val")

# %% [markdown]
# What makes the student that student is said in a few lines of YAML; `bevkd config --run dense_u --explain KEY`
# says which file and line any setting comes from.

# %%
student = load_run("dense_u", SCALE, 0)
print("teacher:", student.row.teacher, "| method:", student.row.method, "| frames:", student.row.frames)
run("config", "--run", "dense_u", "--scale", SCALE, "--explain", "train.lr")

# %% [markdown]
# ## Comparison
#
# `predict` left the submission file and the metrics beside each model. One seed proves nothing: the tables take
# three or more, paired, and a control whose teacher has the student's own sensors.

# %%
runs = Path("results/runs") / SCALE
for name in ("fusion_base", "camera_further", "dense_u"):
    metrics = json.loads((runs / name / "seed0" / "metrics_val.json").read_text())
    print(f"{name:14} mAP {100 * metrics['mean_ap']:.1f}  NDS {100 * metrics['nd_score']:.1f}")

# %%
for name in ("camera_further", "dense_u"):
    lines = [json.loads(line) for line in (runs / name / "seed0" / "log.jsonl").read_text().splitlines()]
    curve = [(line["step"], line["det"]) for line in lines if "det" in line]
    plt.plot(*np.array(curve).T, label=name)
plt.xlabel("step")
plt.ylabel("detection loss")
plt.legend()
plt.show()

# %% [markdown]
# ## One frame
#
# A trained detector works on plain arrays, too (docs/python_api.md). Here the arrays come from the index.

# %%
from bevkd.data import FrameDataset  # noqa: E402 - a cell imports what it needs

frames = FrameDataset(student.data, student.model, "val", train=False, seed=0)
sample = frames.get(0, 0)
assert sample.cameras is not None
model = bevkd.load("dense_u", scale=SCALE)
found = model.predict(
    images=sample.cameras.images,  # resized already, so their intrinsics are those of the source images, resized
    calibration={
        "intrinsics": sample.cameras.image_aug @ sample.cameras.intrinsics,
        "ego_from_camera": sample.cameras.ego_from_camera,
    },
)
print(len(found), "detections, the best of them:", list(zip(found.names, found.scores.round(2), strict=True))[:5])

# %%
boxes, _ = frames.boxes(0)
plt.figure(figsize=(5, 5))
plt.plot(-boxes[:, 1], boxes[:, 0], "rs", fillstyle="none", label="annotations")
plt.scatter(-found.boxes[:, 1], found.boxes[:, 0], c=found.scores, s=20, label="detections")
plt.xlabel("right (m)")
plt.ylabel("forward (m)")
plt.legend()
plt.show()

# %% [markdown]
# ## Further
#
# - `bevkd view --run dense_u --out pictures` draws a frame from above and in the cameras, beside its teacher.
# - `make reproduce` in a clone trains what every table needs, and writes the page `results/report.html`.
# - Your own data: docs/own_data.md; your own method: docs/add_a_method.md.
