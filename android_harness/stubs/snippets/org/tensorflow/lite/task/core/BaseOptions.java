package org.tensorflow.lite.task.core;

/** Signatures to compile against; see android_harness/README.md. */
public abstract class BaseOptions {
    public static native Builder builder();

    public abstract static class Builder {
        public abstract Builder setNumThreads(int numThreads);

        public abstract BaseOptions build();
    }
}
