// build.gradle.kts: implementation("org.tensorflow:tensorflow-lite-task-vision:0.4.4")
// A uint8 or float32 file, in src/main/assets. Take MediaPipe or LiteRT for a new app: the native part of 0.4.4 is
// aligned for memory pages of 4 KB, so it does not load on phones with pages of 16 KB, which Google Play asks for since
// November 2025 (tensorflow/tflite-support, issue 1001).

import android.content.Context
import android.graphics.Bitmap
import org.tensorflow.lite.support.image.TensorImage
import org.tensorflow.lite.task.core.BaseOptions
import org.tensorflow.lite.task.vision.classifier.ImageClassifier

fun classifyWithTaskLibrary(context: Context, photograph: Bitmap): List<Pair<String, Float>> {
    val options = ImageClassifier.ImageClassifierOptions.builder()
        .setBaseOptions(BaseOptions.builder().setNumThreads(2).build())
        .setMaxResults(5)
        .build()
    return ImageClassifier.createFromFileAndOptions(context, "model.uint8.tflite", options).use { classifier ->
        val found = classifier.classify(TensorImage.fromBitmap(square(photograph)))
        found.first().categories.map { it.label to it.score }
    }
}
