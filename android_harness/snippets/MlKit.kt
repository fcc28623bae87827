// build.gradle.kts: implementation("com.google.mlkit:image-labeling-custom:17.0.3")
// A uint8 or float32 file, in src/main/assets, with androidResources { noCompress += "tflite" }.

import android.graphics.Bitmap
import com.google.mlkit.common.model.LocalModel
import com.google.mlkit.vision.common.InputImage
import com.google.mlkit.vision.label.ImageLabeling
import com.google.mlkit.vision.label.custom.CustomImageLabelerOptions

fun classifyWithMlKit(photograph: Bitmap, show: (List<Pair<String, Float>>) -> Unit, fail: (Exception) -> Unit) {
    val model = LocalModel.Builder().setAssetFilePath("model.uint8.tflite").build()
    val options = CustomImageLabelerOptions.Builder(model).setConfidenceThreshold(0f).setMaxResultCount(5).build()
    val labeler = ImageLabeling.getClient(options)
    labeler.process(InputImage.fromBitmap(square(photograph), 0))
        .addOnSuccessListener { labels -> show(labels.map { it.text to it.confidence }) }
        .addOnFailureListener { fail(it) }
}
