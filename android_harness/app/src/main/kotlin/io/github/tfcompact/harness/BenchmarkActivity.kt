package io.github.tfcompact.harness

import android.app.Activity
import android.os.Build
import android.os.Bundle
import android.os.Process
import android.util.Log
import android.view.WindowManager
import android.widget.TextView
import java.io.File

/**
 * Runs a file as the intent's extras say and writes a row, or `{"schema": 2, "error": "…"}`, to the path `out`:
 *
 *     adb shell am start -W -n io.github.tfcompact.harness/.BenchmarkActivity \
 *         --es model /data/local/tmp/model.tflite --es accelerator gpu \
 *         --es out /sdcard/Android/data/io.github.tfcompact.harness/files/row.json
 *
 * With `--es probe true` it writes which accelerators there are instead. All extras are strings; [Request] has them.
 * With an `image`, a file of the bytes of one input, the answer's bytes are written to `out` + `.output`. Where
 * Android does not let the app read `model` or `image`, the error names that path under `unreadable`.
 *
 * It wakes the screen and stands before the lock screen: an app behind either may be left the small cores alone.
 */
class BenchmarkActivity : Activity() {
    override fun onCreate(state: Bundle?) {
        super.onCreate(state)
        window.addFlags(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON)
        if (Build.VERSION.SDK_INT < 27) window.addFlags(AWAKE) // from then on the manifest says it
        val view = TextView(this)
        setContentView(view)
        if (state != null) return // turned, not started: the run goes on in its thread
        getExternalFilesDir(null) // makes the folder that the host puts files in and takes rows from
        val extras = intent.extras
        val given = LinkedHashMap<String, String>()
        extras?.keySet()?.forEach { key -> given[key] = extras.getString(key) ?: "" }
        view.text = given.entries.joinToString("\n") { "${it.key}: ${it.value}" }
        Thread({
            val said = work(given)
            runOnUiThread {
                view.append("\n\n$said")
                finish()
            }
        }, "benchmark").start()
    }

    /** Does what was asked, writes it, and returns one line for the screen. */
    private fun work(given: Map<String, String>): String {
        val json = try {
            if (given["probe"] == "true") probe() else row(given)
        } catch (error: UserError) {
            errorJson(error)
        } catch (error: LinkageError) {
            errorJson("this build of the app has no LiteRT ($error); build it with Gradle")
        } catch (error: OutOfMemoryError) {
            errorJson("the phone has too little memory for this file; take a smaller one")
        } catch (error: Exception) {
            errorJson("the app failed with $error; this is a mistake in it")
        }
        val text = Json.write(json)
        return try {
            val out = given["out"] ?: throw UserError("no path for the result; give --es out PATH")
            writeWhole(File(out), text.toByteArray())
            Log.i(TAG, "wrote $out")
            text.take(400)
        } catch (error: UserError) {
            Log.e(TAG, error.message ?: "")
            error.message ?: ""
        }
    }

    private fun row(given: Map<String, String>): Map<String, Any?> {
        val request = Request.fromExtras(given)
        val phone = Phone(this)
        val start = phone.nanoTime()
        val content = readWhole(request.model)
        val loadMs = (phone.nanoTime() - start) / 1e6
        val (row, output) = benchmark(request, content, loadMs, request.image?.let(::readWhole), phone) { file ->
            LiteRtEngine(this, file, request.model, request.accelerator, request.threads)
        }
        if (output != null) writeWhole(File(request.out + ".output"), output)
        // The host reads in Android's log what this process was given; other apps write there, too.
        return row.toJson() + ("pid" to Process.myPid())
    }

    private fun probe(): Map<String, Any?> =
        linkedMapOf("schema" to SCHEMA, "runtime" to LITERT, "accelerators" to LiteRtEngine.available(this))

    private companion object {
        const val TAG = "tfcompact"
        const val AWAKE = WindowManager.LayoutParams.FLAG_SHOW_WHEN_LOCKED or
            WindowManager.LayoutParams.FLAG_TURN_SCREEN_ON
    }
}
