package com.google.mediapipe.tasks.components.containers;

import java.util.List;

/** Signatures to compile against; see android_harness/README.md. */
public abstract class ClassificationResult {
    public abstract List<Classifications> classifications();
}
