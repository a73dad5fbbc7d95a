"""Images in memory on the training device: data sets, splits, batches and augmentation."""

from engine.data.images import Batch, Images, Split
from engine.data.load import fetch_files, load_images

__all__ = ["Batch", "Images", "Split", "fetch_files", "load_images"]
