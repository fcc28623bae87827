package com.google.mlkit.vision.label;

/** Signatures to compile against; see android_harness/README.md. */
public class ImageLabeling {
    public static native ImageLabeler getClient(ImageLabelerOptionsBase options);
}
