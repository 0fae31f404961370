"""Readers and writers of annotation formats, splits, digests and result files."""
