"""Detectors for inference: post-processing, merging of tiles and the module for export."""
