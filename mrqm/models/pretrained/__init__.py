"""Backbone weights out of files of timm and other libraries."""
