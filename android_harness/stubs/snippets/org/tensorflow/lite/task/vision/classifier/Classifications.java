package org.tensorflow.lite.task.vision.classifier;

import java.util.List;
import org.tensorflow.lite.support.label.Category;

/** Signatures to compile against; see android_harness/README.md. */
public abstract class Classifications {
    public abstract List<Category> getCategories();
}
