package com.google.mlkit.vision.label.custom;

import com.google.mlkit.common.model.LocalModel;
import com.google.mlkit.vision.label.ImageLabelerOptionsBase;

/** Signatures to compile against; see android_harness/README.md. */
public class CustomImageLabelerOptions extends ImageLabelerOptionsBase {
    CustomImageLabelerOptions() {}

    public static class Builder {
        public Builder(LocalModel localModel) {}

        public native Builder setConfidenceThreshold(float confidenceThreshold);

        public native Builder setMaxResultCount(int maxResultCount);

        public native CustomImageLabelerOptions build();
    }
}
