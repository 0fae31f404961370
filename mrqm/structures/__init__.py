"""Types that the other packages share: annotations, targets, detections and windows."""
