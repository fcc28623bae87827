package io.github.tfcompact.harness

import java.io.File
import java.nio.ByteBuffer
import kotlin.system.exitProcess

/**
 * The app's Android-free parts on the JVM, for tests that compare them with Python: one command a run, or several
 * separated by the word `then`. Prints one line of JSON for each, `{"error": …}` where it failed.
 */
fun main(arguments: Array<String>) {
    val words = arguments.toMutableList()
    if (words.isEmpty()) exitProcess(2)
    while (words.isNotEmpty()) {
        val end = words.indexOf("then").let { if (it < 0) words.size else it }
        val command = words.subList(0, end).toList()
        repeat(minOf(end + 1, words.size)) { words.removeAt(0) }
        val answer = try {
            run(command)
        } catch (error: UserError) {
            errorJson(error)
        }
        println(Json.write(answer, 0))
    }
}

private fun run(words: List<String>): Any? {
    val files = words.drop(1).map(::File)
    return when (val name = words[0]) {
        "json" -> Json.parse(files[0].readText())
        "measurement" -> Measurement.from(Json.parse(files[0].readText())).toJson()
        "model" -> described(ModelFile.read(files[0].readBytes()))
        "fit" -> { // RGB WIDTH HEIGHT PX OUT
            val image = Pixels(files[0].readBytes(), words[2].toInt(), words[3].toInt())
            files[4].writeBytes(Preprocessing.fitSquare(image, words[4].toInt()).rgb)
            null
        }
        "upright" -> { // RGBA WIDTH HEIGHT ORIENTATION OUT
            val rgba = ByteBuffer.wrap(files[0].readBytes())
            val (width, height) = words[2].toInt() to words[3].toInt()
            val image = Pixels.upright(width, height, words[4].toInt()) { y, row ->
                for (x in row.indices) row[x] = Integer.rotateRight(rgba.getInt(4 * (width * y + x)), 8)
            }
            files[4].writeBytes(image.rgb)
            listOf(image.width, image.height, image.argb().toList())
        }
        "prepare" -> { // MODEL RGB OUT, of a square image of the model's size
            val file = ModelFile.read(files[0].readBytes())
            val image = Pixels(files[1].readBytes(), file.imagePx, file.imagePx)
            files[2].writeBytes(Preprocessing.prepared(image, file))
            null
        }
        "answer" -> { // MODEL OUTPUT
            val file = ModelFile.read(files[0].readBytes())
            best(probabilities(files[1].readBytes(), file.output), file.labels)
                .map { (label, share) -> listOf(label, share.toDouble()) }
        }
        "statistics" -> {
            val samples = Fields(Json.parse(files[0].readText()), "samples").doubles("wall_ms")
            summarized(samples).toJson() + ("mad_ms" to medianAbsoluteDeviation(samples))
        }
        "benchmark", "hidden" -> {
            val extras = words.drop(1).associate { it.substringBefore('=') to it.substringAfter('=') }
            benchmarked(extras, hidden = name == "hidden")
        }
        else -> throw UserError("no command named '$name'")
    }
}

private fun described(file: ModelFile): Map<String, Any?> {
    fun tensor(t: TensorInfo) = linkedMapOf(
        "type" to t.type, "shape" to t.shape, "scale" to t.quantization?.scale?.toDouble(),
        "zero_point" to t.quantization?.zeroPoint,
    )
    return linkedMapOf(
        "sha256" to file.sha256, "bytes" to file.bytes, "format" to file.format, "image_px" to file.imagePx,
        "input" to tensor(file.input), "output" to tensor(file.output), "name" to file.name, "labels" to file.labels,
        "mean" to file.normalization.mean, "std" to file.normalization.std, "bgr" to file.normalization.bgr,
        "model" to file.model, "run" to file.run,
    )
}

/**
 * A benchmark whose engine takes 2 ms by a clock of its own, and answers with the sum of its input's bytes. In a
 * [hidden] one the screen goes off in the last of its runs.
 */
private fun benchmarked(extras: Map<String, String>, hidden: Boolean): Map<String, Any?> {
    val request = Request.fromExtras(extras)
    var now = 0L
    var runs = 0
    val machine = object : Machine {
        override val device = Device("android", "android-stand-in-0000", "a clock", 8, "none")

        override fun state() = DeviceState(thermalStatus = if (runs == 0) 0 else 1, screenOn = inForeground())

        override fun inForeground() = !hidden || runs < request.runs

        override fun nanoTime(): Long = now

        override fun peakMemoryMb(): Double = 12.5

        override fun timestamp(): String = "2025-11-24T12:00:00+00:00"
    }
    val engine = object : Engine {
        override val runtime = "none"
        private var sum = 0

        override fun write(input: ByteArray) {
            sum = input.sumOf { it.toInt() and 255 }
        }

        override fun run() {
            runs++
            now += if (runs == 1) 9_000_000 else 2_000_000
        }

        override fun read(): ByteArray = sum.toString().toByteArray()

        override fun close() {}
    }
    val image = request.image?.let(::readWhole)
    val (row, output) = benchmark(request, readWhole(request.model), 1.5, image, machine) {
        now += 30_000_000
        engine
    }
    writeWhole(File(request.out), Json.write(row.toJson()).toByteArray())
    return linkedMapOf("runs" to runs, "output" to output?.let { String(it) })
}
