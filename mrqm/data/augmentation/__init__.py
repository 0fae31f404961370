"""Random changes of training images: views, joined and pasted ones, flips and turns, colours."""
