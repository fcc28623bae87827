"""What Android's Task Library makes of a file: `task_library.py FILE.tflite IMAGES.npy`, one JSON object a line.

Runs in the environment `.judges/task-library`, under tflite-support 0.4.4: its metadata reader, then its
`ImageClassifier`. `IMAGES.npy` holds uint8 RGB `[n, px, px, 3]` of the file's own input size, so that nothing is
resized on the way. The first line is the metadata, each following one the five best classes of one image.
"""

import json
import sys
from pathlib import Path

import numpy as np
from tflite_support import metadata
from tflite_support.task import core, processor, vision


def main(model: str, images: str) -> None:
    displayer = metadata.MetadataDisplayer.with_model_file(model)
    files = displayer.get_packed_associated_file_list()
    described = json.loads(displayer.get_metadata_json())
    texts = {name: displayer.get_associated_file_buffer(name).decode() for name in files}
    print(json.dumps({"metadata": described, "files": texts}))
    options = vision.ImageClassifierOptions(
        base_options=core.BaseOptions(file_name=model, num_threads=1),
        classification_options=processor.ClassificationOptions(max_results=5),
    )
    classifier = vision.ImageClassifier.create_from_options(options)
    for image in np.load(Path(images)):
        result = classifier.classify(vision.TensorImage.create_from_array(np.ascontiguousarray(image)))
        (head,) = result.classifications
        print(json.dumps([{"index": c.index, "label": c.category_name, "score": c.score} for c in head.categories]))


if __name__ == "__main__":
    main(*sys.argv[1:])
