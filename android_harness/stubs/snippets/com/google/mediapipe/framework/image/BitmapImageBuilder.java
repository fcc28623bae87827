package com.google.mediapipe.framework.image;

import android.graphics.Bitmap;

/** Signatures to compile against; see android_harness/README.md. */
public class BitmapImageBuilder {
    public BitmapImageBuilder(Bitmap bitmap) {}

    public native MPImage build();
}
