package org.tensorflow.lite.support.label;

/** Signatures to compile against; see android_harness/README.md. */
public final class Category {
    public native String getLabel();

    public native float getScore();
}
