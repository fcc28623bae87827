"""What MediaPipe Tasks makes of a file: `mediapipe_tasks.py FILE.tflite IMAGES.npy`, one JSON object a line.

Runs in the environment `.judges/mediapipe`. `IMAGES.npy` holds uint8 RGB `[n, px, px, 3]` of the file's own input
size, so that nothing is resized on the way. Each line is the five best classes of one image.
"""

import json
import sys
from pathlib import Path

import mediapipe
import numpy as np
from mediapipe.tasks.python import BaseOptions, vision


def main(model: str, images: str) -> None:
    # The content instead of the path: MediaPipe looks for paths under its own package directory.
    options = vision.ImageClassifierOptions(
        base_options=BaseOptions(model_asset_buffer=Path(model).read_bytes()), max_results=5
    )
    with vision.ImageClassifier.create_from_options(options) as classifier:
        for image in np.load(Path(images)):
            pixels = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(image))
            (head,) = classifier.classify(pixels).classifications
            print(
                json.dumps([{"index": c.index, "label": c.category_name, "score": c.score} for c in head.categories])
            )


if __name__ == "__main__":
    main(*sys.argv[1:])
