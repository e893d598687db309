"""KITTI object detection metrics: AP in the image, in BEV and in 3D, and AOS, equal to the official evaluator."""

from bevkd.data.kitti.objects import Objects, read_folder
from bevkd.eval.kitti.frames import read_split
from bevkd.eval.kitti.metrics import CLASSES, DIFFICULTIES, METRICS, evaluate
from bevkd.eval.kitti.run import evaluate_files

__all__ = ["CLASSES", "DIFFICULTIES", "METRICS", "Objects", "evaluate", "evaluate_files", "read_folder", "read_split"]
