"""Evaluation protocols of COCO, VisDrone and SODA-D."""
