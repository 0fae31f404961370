"""Operations on tensors: boxes, non-maximum suppression, deformable attention and distributed helpers."""
