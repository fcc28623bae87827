package com.google.mlkit.vision.label;

import com.google.android.gms.tasks.Task;
import com.google.mlkit.vision.common.InputImage;
import java.io.Closeable;
import java.util.List;

/** Signatures to compile against; see android_harness/README.md. */
public interface ImageLabeler extends Closeable {
    Task<List<ImageLabel>> process(InputImage image);

    @Override
    void close();
}
