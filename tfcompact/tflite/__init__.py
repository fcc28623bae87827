"""A `.tflite` file's bytes, and what runs them. No TensorFlow here."""
