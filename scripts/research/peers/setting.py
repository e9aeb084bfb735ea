"""The work of every model in the comparison."""

HEIGHT, WIDTH = 600, 1000
CLASSES = 80  # without background
PROPOSALS, DETECTIONS = 300, 100
# Random weights with batch-norm statistics 0 and 1 double the variance of the features at every
# residual block; regressed boxes then cover the whole image and NMS leaves too few of them. The
# last gamma of every block is set to this, which keeps the features near unit scale.
RESIDUAL_GAMMA = 0.2
