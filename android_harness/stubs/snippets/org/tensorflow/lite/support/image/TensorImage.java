package org.tensorflow.lite.support.image;

import android.graphics.Bitmap;

/** Signatures to compile against; see android_harness/README.md. */
public class TensorImage {
    public static native TensorImage fromBitmap(Bitmap bitmap);
}
