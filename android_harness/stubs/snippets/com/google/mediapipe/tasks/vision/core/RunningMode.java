package com.google.mediapipe.tasks.vision.core;

/** Signatures to compile against; see android_harness/README.md. */
public enum RunningMode {
    IMAGE,
    VIDEO,
    LIVE_STREAM
}
