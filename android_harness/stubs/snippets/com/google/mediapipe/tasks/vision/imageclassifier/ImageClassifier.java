package com.google.mediapipe.tasks.vision.imageclassifier;

import android.content.Context;
import com.google.mediapipe.framework.image.MPImage;
import com.google.mediapipe.tasks.core.BaseOptions;
import com.google.mediapipe.tasks.vision.core.RunningMode;

/** Signatures to compile against; see android_harness/README.md. */
public final class ImageClassifier implements AutoCloseable {
    public static native ImageClassifier createFromOptions(Context context, ImageClassifierOptions options);

    public native ImageClassifierResult classify(MPImage image);

    @Override
    public native void close();

    public abstract static class ImageClassifierOptions {
        public static native Builder builder();

        public abstract static class Builder {
            public abstract Builder setBaseOptions(BaseOptions baseOptions);

            public abstract Builder setRunningMode(RunningMode runningMode);

            public abstract Builder setMaxResults(Integer maxResults);

            public final native ImageClassifierOptions build();
        }
    }
}
