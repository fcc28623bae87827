package com.google.mediapipe.tasks.core;

/** Signatures to compile against; see android_harness/README.md. */
public abstract class BaseOptions {
    public static native Builder builder();

    public abstract static class Builder {
        public abstract Builder setModelAssetPath(String value);

        public abstract Builder setDelegate(Delegate delegate);

        public final native BaseOptions build();
    }
}
