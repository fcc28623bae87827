package com.google.mediapipe.tasks.core;

/** Signatures to compile against; see android_harness/README.md. */
public enum Delegate {
    CPU,
    GPU
}
