package org.tensorflow.lite.task.vision.classifier;

import android.content.Context;
import java.io.IOException;
import java.util.List;
import org.tensorflow.lite.support.image.TensorImage;
import org.tensorflow.lite.task.core.BaseOptions;

/** Signatures to compile against; see android_harness/README.md. */
public final class ImageClassifier implements AutoCloseable {
    public static native ImageClassifier createFromFileAndOptions(
            Context context, String modelPath, ImageClassifierOptions options) throws IOException;

    public native List<Classifications> classify(TensorImage image);

    @Override
    public native void close();

    public abstract static class ImageClassifierOptions {
        public static native Builder builder();

        public abstract static class Builder {
            public abstract Builder setBaseOptions(BaseOptions baseOptions);

            public abstract Builder setMaxResults(int maxResults);

            public abstract ImageClassifierOptions build();
        }
    }
}
