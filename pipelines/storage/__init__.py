"""Folders of runs, checkpoints and cached data on any file system."""
