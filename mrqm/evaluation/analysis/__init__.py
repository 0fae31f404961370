"""Analysis of detections: outcomes, errors, curves, and reasons why results score nothing."""
