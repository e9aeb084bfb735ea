"""The network: backbone, region proposals, score maps, and what is read from them.

Importing it sets up the allocator. Every command and public function that computes anything imports
it before TensorFlow starts its threads; called later, when they own memory, the setting has little
effect (docs/performance.md).
"""

from fcis_tf.allocator import keep_freed_memory

keep_freed_memory()
