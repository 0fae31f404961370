"""Conversion of annotated images on disk to batches: readers, datasets, tiles, transforms and loaders."""

from mrqm.data.loading.build import build_dataset, read_classes
from mrqm.data.loading.dataset import DetectionDataset
from mrqm.data.loading.loader import DetectionLoader, build_loader, collate
from mrqm.structures.annotations import AnnotationSet, DataError, ImageRecord, Repairs

__all__ = [
    "AnnotationSet",
    "DataError",
    "DetectionDataset",
    "DetectionLoader",
    "ImageRecord",
    "Repairs",
    "build_dataset",
    "build_loader",
    "collate",
    "read_classes",
]
