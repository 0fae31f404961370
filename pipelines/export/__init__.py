"""`mrqm export`: ONNX graphs and their verification."""
