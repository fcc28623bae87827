package com.google.mediapipe.framework.image;

/** Signatures to compile against; see android_harness/README.md. */
public class MPImage {
    MPImage() {}
}
