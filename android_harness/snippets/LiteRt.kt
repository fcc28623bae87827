// build.gradle.kts: implementation("com.google.ai.edge.litert:litert:2.3.0")
// Any file of tfcompact's, in src/main/assets, with androidResources { noCompress += "tflite" }. Takes ModelFile.kt,
// Json.kt, Preprocessing.kt and Photographs.kt of the app; size, normalization and labels come from the file. Give
// Photographs.pixels the photograph's EXIF orientation, or take Photographs.read, which asks the file for it.

import android.content.Context
import android.graphics.Bitmap
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel
import io.github.tfcompact.harness.ModelFile
import io.github.tfcompact.harness.Photographs
import io.github.tfcompact.harness.Preprocessing
import io.github.tfcompact.harness.best
import io.github.tfcompact.harness.probabilities

fun classifyWithLiteRt(context: Context, photograph: Bitmap): List<Pair<String, Float>> {
    val asset = "model.int8.tflite"
    val file = ModelFile.read(context.assets.open(asset).use { it.readBytes() })
    require(file.input.type == "int8") { "this is written for an int8 file; see LiteRtEngine.kt for the others" }
    return CompiledModel.create(context.assets, asset, CompiledModel.Options(Accelerator.CPU)).use { model ->
        val (inputs, outputs) = model.createInputBuffers() to model.createOutputBuffers()
        val image = Preprocessing.fitSquare(Photographs.pixels(photograph), file.imagePx)
        inputs[0].writeInt8(Preprocessing.prepared(image, file))
        model.run(inputs, outputs)
        best(probabilities(outputs[0].readInt8(), file.output), file.labels)
    }
}
