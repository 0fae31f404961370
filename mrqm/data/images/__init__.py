"""Image decoding, tiles and windows."""
