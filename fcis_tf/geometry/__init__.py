"""Boxes, anchors, matching and box-frame masks: pure functions on tensors."""
