"""Detectors for use: post-processing, merging of tiles and the module that is exported."""
