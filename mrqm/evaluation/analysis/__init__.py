"""Analysis of detections: outcomes, errors, curves, and diagnosis of misread results."""
