"""The training loop: steps, optimizer, progress, divergence, resume and memory."""
