package com.google.mediapipe.tasks.vision.imageclassifier;

import com.google.mediapipe.tasks.components.containers.ClassificationResult;

/** Signatures to compile against; see android_harness/README.md. */
public abstract class ImageClassifierResult {
    public abstract ClassificationResult classificationResult();
}
