"""Position-sensitive pooling and assembly."""

from fcis_tf.ops.ps_assembly import ps_assemble, ps_average, ps_roi_pool

__all__ = ["ps_assemble", "ps_average", "ps_roi_pool"]
