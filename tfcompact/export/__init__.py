"""From Keras models to verified `.tflite` files."""
