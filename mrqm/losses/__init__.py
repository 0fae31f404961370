"""Criterion and matcher."""
