package com.google.mlkit.vision.common;

import android.graphics.Bitmap;

/** Signatures to compile against; see android_harness/README.md. */
public class InputImage {
    public static native InputImage fromBitmap(Bitmap bitmap, int rotationDegrees);
}
