package com.google.mediapipe.tasks.components.containers;

/** Signatures to compile against; see android_harness/README.md. */
public abstract class Category {
    public abstract float score();

    public abstract String categoryName();
}
