"""Data: from files on disk, as their owners ship them, to batches of tensors."""

from bevkd.data.batch import Batch, Boxes, Cameras
from bevkd.data.dataset import FrameDataset
from bevkd.data.nuscenes import convert_nuscenes
from bevkd.data.sample import Sample, collate
from bevkd.data.sampling import BatchPlan

__all__ = ["Batch", "BatchPlan", "Boxes", "Cameras", "FrameDataset", "Sample", "collate", "convert_nuscenes"]
