package com.google.mlkit.vision.label;

/** Signatures to compile against; see android_harness/README.md. */
public class ImageLabel {
    public native String getText();

    public native float getConfidence();
}
