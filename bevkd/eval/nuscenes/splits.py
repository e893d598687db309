"""Which scenes belong to a split; the rule is that of indices and trainings, `bevkd.splits`."""

from bevkd.splits import SPLITS_OF_VERSION, official_splits, split_scenes

__all__ = ["SPLITS_OF_VERSION", "official_splits", "split_scenes"]
