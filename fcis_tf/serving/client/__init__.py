"""A client of TensorFlow Serving that needs neither TensorFlow nor Keras."""
