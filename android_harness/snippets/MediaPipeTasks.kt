// build.gradle.kts: implementation("com.google.mediapipe:tasks-vision:0.10.26")
// A uint8 or float32 file, in src/main/assets.

import android.content.Context
import android.graphics.Bitmap
import com.google.mediapipe.framework.image.BitmapImageBuilder
import com.google.mediapipe.tasks.core.BaseOptions
import com.google.mediapipe.tasks.core.Delegate
import com.google.mediapipe.tasks.vision.core.RunningMode
import com.google.mediapipe.tasks.vision.imageclassifier.ImageClassifier

fun classifyWithMediaPipe(context: Context, photograph: Bitmap): List<Pair<String, Float>> {
    val options = ImageClassifier.ImageClassifierOptions.builder()
        .setBaseOptions(
            BaseOptions.builder().setModelAssetPath("model.uint8.tflite").setDelegate(Delegate.CPU).build(),
        )
        .setRunningMode(RunningMode.IMAGE)
        .setMaxResults(5)
        .build()
    return ImageClassifier.createFromOptions(context, options).use { classifier ->
        val result = classifier.classify(BitmapImageBuilder(square(photograph)).build())
        result.classificationResult().classifications().first().categories().map { it.categoryName() to it.score() }
    }
}
