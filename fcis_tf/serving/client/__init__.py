"""Clients of TensorFlow Serving, which need neither TensorFlow nor Keras."""
