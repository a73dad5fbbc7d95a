"""Images in memory on the training device, or in files: data sets, splits, batches and augmentation."""

from engine.data.images import AnySplit, Batch, Images, Split
from engine.data.load import fetch_files, load_images

__all__ = ["AnySplit", "Batch", "Images", "Split", "fetch_files", "load_images"]
