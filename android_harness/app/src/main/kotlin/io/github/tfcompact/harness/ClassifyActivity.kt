package io.github.tfcompact.harness

import android.app.Activity
import android.content.ActivityNotFoundException
import android.content.Intent
import android.net.Uri
import android.os.Build
import android.os.Bundle
import android.provider.MediaStore
import android.view.View
import android.widget.Button
import android.widget.ImageView
import android.widget.TextView
import java.io.File
import java.util.Locale
import java.util.concurrent.Executors

/**
 * A photograph from the camera or the gallery, and what the chosen file takes it for.
 *
 * The `.tflite` file comes from the app's assets (the first there is), from the phone's files, or from the extra
 * `model`, a path. Labels, size, normalization and quantization are read in the file: any file of tfcompact's works.
 */
class ClassifyActivity : Activity() {
    private val worker = Executors.newSingleThreadExecutor()
    private lateinit var answer: TextView
    private lateinit var picture: ImageView
    private var model: Loaded? = null

    /** A file that was read, and its engine, or in one sentence why it has none. For the worker's thread alone. */
    private class Loaded(val file: ModelFile, val engine: Engine?, val lacks: String)

    override fun onCreate(state: Bundle?) {
        super.onCreate(state)
        setContentView(R.layout.classify)
        answer = findViewById(R.id.answer) as TextView
        picture = findViewById(R.id.picture) as ImageView
        button(R.id.camera) { startActivityForResult(camera(), CAMERA) }
        button(R.id.gallery) { startActivityForResult(gallery(), GALLERY) }
        button(R.id.choose) { startActivityForResult(document(), MODEL) }
        val given = intent.getStringExtra("model")
        work {
            val file = if (given != null) File(given) else firstAsset()
            if (file == null) "Choose a .tflite file." else opened(file)
        }
    }

    override fun onDestroy() {
        worker.execute { model?.engine?.close() }
        worker.shutdown()
        super.onDestroy()
    }

    override fun onActivityResult(request: Int, result: Int, data: Intent?) {
        super.onActivityResult(request, result, data)
        if (result != RESULT_OK) return
        when (request) {
            CAMERA -> work { classified(CaptureProvider.file(this)) }
            GALLERY -> data?.data?.let { uri -> work { classified(copied(uri, "gallery")) } }
            MODEL -> data?.data?.let { uri -> work { opened(copied(uri, "chosen.tflite")) } }
        }
    }

    private fun opened(file: File): String {
        val described = ModelFile.read(file.readBytes())
        model?.engine?.close()
        model = null
        val loaded = try {
            Loaded(described, LiteRtEngine(this, described, file.path, "cpu", THREADS), "")
        } catch (error: UserError) {
            Loaded(described, null, oneLine(error))
        } catch (error: LinkageError) {
            Loaded(described, null, getString(R.string.no_runtime))
        }
        model = loaded
        val (px, classes) = described.imagePx to described.labels.size
        val next = loaded.lacks.ifEmpty { getString(R.string.take) }
        return "${described.name}: ${described.format}, $px x $px px, $classes labels.\n$next"
    }

    private fun classified(photograph: File): String {
        val loaded = model ?: throw UserError("choose a .tflite file first")
        val file = loaded.file
        val image = Preprocessing.fitSquare(Photographs.read(photograph, file.imagePx), file.imagePx)
        val seen = Photographs.bitmap(image) // what the network sees, and small enough for any screen to draw
        runOnUiThread { picture.setImageBitmap(seen) }
        val engine = loaded.engine ?: throw UserError(loaded.lacks)
        engine.write(Preprocessing.prepared(image, file))
        val start = System.nanoTime()
        engine.run()
        val ms = (System.nanoTime() - start) / 1e6
        val lines = best(probabilities(engine.read(), file.output), file.labels)
            .map { (label, share) -> String.format(Locale.ROOT, "%5.1f %%  %s", 100 * share, label) }
        return (lines + String.format(Locale.ROOT, "%.1f ms on the CPU, the network alone", ms)).joinToString("\n")
    }

    private fun work(task: () -> String) {
        answer.text = getString(R.string.working)
        worker.execute {
            val said = try {
                task()
            } catch (error: LinkageError) {
                getString(R.string.no_runtime)
            } catch (error: OutOfMemoryError) {
                getString(R.string.no_memory)
            } catch (error: Exception) { // of the file, of another app's photograph, or LiteRT's in a run
                oneLine(error)
            }
            runOnUiThread { answer.text = said }
        }
    }

    private fun button(id: Int, action: () -> Unit) {
        val button = findViewById(id) as Button
        button.setOnClickListener(View.OnClickListener {
            try {
                action()
            } catch (error: ActivityNotFoundException) {
                answer.text = getString(R.string.no_app)
            }
        })
    }

    private fun camera(): Intent {
        val intent = Intent(MediaStore.ACTION_IMAGE_CAPTURE)
        intent.putExtra(MediaStore.EXTRA_OUTPUT, CaptureProvider.uri(this))
        intent.addFlags(Intent.FLAG_GRANT_WRITE_URI_PERMISSION or Intent.FLAG_GRANT_READ_URI_PERMISSION)
        return intent
    }

    /**
     * Android 13's photo picker, which needs no permission; before, the documents' picker, which needs none either.
     */
    private fun gallery(): Intent =
        if (Build.VERSION.SDK_INT >= 33) Intent(PICK_IMAGES).setType("image/*") else document("image/*")

    private fun document(type: String = "*/*"): Intent =
        Intent(Intent.ACTION_OPEN_DOCUMENT).addCategory(Intent.CATEGORY_OPENABLE).setType(type)

    private fun copied(uri: Uri, name: String): File {
        val file = File(cacheDir, name)
        val stream = contentResolver.openInputStream(uri) ?: throw UserError("$uri cannot be opened; choose another")
        stream.use { input -> file.outputStream().use { input.copyTo(it) } }
        return file
    }

    /** The first `.tflite` of the assets as a file: LiteRT's asset loader needs one that is stored uncompressed. */
    private fun firstAsset(): File? {
        val name = assets.list("")?.filter { it.endsWith(".tflite") }?.minOrNull() ?: return null
        val file = File(cacheDir, "asset.tflite")
        assets.open(name).use { input -> file.outputStream().use { input.copyTo(it) } }
        return file
    }

    private companion object {
        /** `MediaStore.ACTION_PICK_IMAGES` of API 33. */
        const val PICK_IMAGES = "android.provider.action.PICK_IMAGES"
        const val CAMERA = 1
        const val GALLERY = 2
        const val MODEL = 3
        const val THREADS = 2
    }
}
