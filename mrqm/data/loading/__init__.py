"""The dataset, its transforms and the loader of batches."""
