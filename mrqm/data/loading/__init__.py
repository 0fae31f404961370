"""Dataset, transforms and loader of batches."""
