"""From label files to network inputs: readers, TFRecords, augmentation, the tf.data pipeline."""
