"""MRQM: a DETR-style detector of small objects (Fu et al., ACML 2024)."""
