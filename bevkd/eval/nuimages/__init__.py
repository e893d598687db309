"""Average precision of 2D boxes in nuImages."""

from bevkd.eval.nuimages.metrics import average_precision, evaluate, iou_2d

__all__ = ["average_precision", "evaluate", "iou_2d"]
