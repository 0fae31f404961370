"""Sections of a configuration, one per module."""
