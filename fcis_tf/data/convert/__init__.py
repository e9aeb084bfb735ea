"""From labels to TFRecords."""
