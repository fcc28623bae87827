package com.google.mlkit.common.model;

/** Signatures to compile against; see android_harness/README.md. */
public class LocalModel {
    LocalModel() {}

    public static class Builder {
        public native Builder setAssetFilePath(String assetFilePath);

        public native LocalModel build();
    }
}
