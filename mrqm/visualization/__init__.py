"""Pictures of detections and of queries."""
