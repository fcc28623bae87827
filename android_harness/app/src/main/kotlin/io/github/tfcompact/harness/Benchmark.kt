package io.github.tfcompact.harness

import java.io.File
import java.io.FileOutputStream
import java.io.IOException

/** A compiled network with its buffers. [run] does nothing but the inference: it is what is timed. */
interface Engine : AutoCloseable {
    /** The runtime with its version, as `Measurement.runtime` has it. */
    val runtime: String

    fun write(input: ByteArray)

    fun run()

    fun read(): ByteArray
}

/** What a benchmark is asked for; the names of the intent's extras are those of [fromExtras]. */
data class Request(
    val model: String,
    val out: String,
    val accelerator: String = "cpu",
    val threads: Int = 1,
    val warmup: Int = 10,
    val runs: Int = 100,
    val minSeconds: Double = 1.0,
    val maxSeconds: Double = 150.0,
    val image: String? = null,
    val warmupSeconds: Double = 0.5,
) {
    init {
        if (accelerator !in ACCELERATORS) {
            throw UserError("no accelerator named '$accelerator'; known: ${ACCELERATORS.joinToString()}")
        }
        for ((name, value) in listOf("threads" to threads, "warmup" to warmup, "runs" to runs)) {
            if (value < 1) throw UserError("$name must be at least 1, not $value")
        }
        if (minSeconds < 0 || maxSeconds <= 0) throw UserError("min_seconds and max_seconds must be positive")
        if (warmupSeconds < 0) throw UserError("warmup_seconds must be 0 or more, not $warmupSeconds")
    }

    companion object {
        val ACCELERATORS = listOf("cpu", "gpu", "npu")
        private val NAMES = listOf(
            "model", "out", "accelerator", "threads", "warmup", "runs", "min_seconds", "max_seconds", "image",
            "warmup_seconds",
        )

        /**
         * A request of an intent's extras, all of them strings. Throws [UserError] where one is unknown or no
         * number.
         */
        fun fromExtras(extras: Map<String, String>): Request {
            val unknown = extras.keys.firstOrNull { it !in NAMES }
            if (unknown != null) throw UserError("unknown extra '$unknown'; known: ${NAMES.joinToString()}")
            fun int(name: String, default: Int): Int = extras[name]
                ?.let { it.toIntOrNull() ?: throw UserError("$name must be a whole number, not '$it'") } ?: default
            fun double(name: String, default: Double): Double = extras[name]
                ?.let { it.toDoubleOrNull() ?: throw UserError("$name must be a number, not '$it'") } ?: default
            return Request(
                extras["model"] ?: throw UserError("no model; give --es model PATH"),
                extras["out"] ?: throw UserError("no path for the result; give --es out PATH"),
                extras["accelerator"] ?: "cpu", int("threads", 1), int("warmup", 10), int("runs", 100),
                double("min_seconds", 1.0), double("max_seconds", 150.0), extras["image"],
                double("warmup_seconds", 0.5),
            )
        }
    }
}

/** What the benchmark needs of the device it runs on. */
interface Machine {
    val device: Device

    fun state(): DeviceState

    fun nanoTime(): Long

    /** The most memory this process ever held, in MB of 10^6 bytes, or null where the system does not say. */
    fun peakMemoryMb(): Double?

    /** Whether this process is the one in front, which Android gives all cores to, and the screen is awake. */
    fun inForeground(): Boolean

    /** Now, as ISO 8601 in UTC. */
    fun timestamp(): String
}

/** Runs a file by [Request] and gives the row. `compile` makes the engine; the time it takes is the compile time. */
fun benchmark(
    request: Request, content: ByteArray, loadMs: Double, image: ByteArray?, machine: Machine,
    compile: (ModelFile) -> Engine,
): Pair<Measurement, ByteArray?> {
    val file = ModelFile.read(content)
    val started = machine.timestamp()
    val before = machine.state()
    val start = machine.nanoTime()
    compile(file).use { engine ->
        val compileMs = (machine.nanoTime() - start) / 1e6
        val input = image ?: Preprocessing.prepared(randomPixels(file.imagePx), file)
        val size = file.input.shape.fold(if (file.input.type == "float32") 4 else 1) { product, n -> product * n }
        if (input.size != size) throw UserError("the image has ${input.size} bytes, and the file takes $size")
        engine.write(input)
        fun timed(): Long {
            val from = machine.nanoTime()
            engine.run()
            return machine.nanoTime() - from
        }
        val firstMs = timed() / 1e6
        val warmFrom = machine.nanoTime()
        var warmups = 1 // the first one, too
        while (warmups < request.warmup || (machine.nanoTime() - warmFrom) / 1e9 < request.warmupSeconds) {
            engine.run()
            warmups++
        }
        val frontBefore = machine.inForeground()
        val samples = ArrayList<Double>(request.runs)
        val from = machine.nanoTime()
        fun seconds(): Double = (machine.nanoTime() - from) / 1e9
        while ((samples.size < request.runs || seconds() < request.minSeconds) &&
            (samples.isEmpty() || seconds() < request.maxSeconds)
        ) {
            samples.add(timed() / 1e6)
        }
        val output = if (image == null) null else engine.read()
        val frontAfter = machine.inForeground()
        val after = machine.state()
        return Measurement(
            model = file.model.ifEmpty { file.name },
            run = file.run,
            artifact = File(request.model).name,
            artifactSha256 = file.sha256,
            artifactBytes = file.bytes,
            format = file.format,
            imagePx = file.imagePx,
            device = machine.device,
            runtime = engine.runtime,
            delegate = request.accelerator,
            threads = request.threads,
            warmupRuns = warmups,
            wallMs = samples,
            started = started,
            backend = "litert_app",
            peakMemoryMb = machine.peakMemoryMb(),
            validity = flags(before, after) + mapOf(
                "cut_short" to (samples.size < request.runs),
                "in_background" to !(frontBefore && frontAfter),
            ),
            cold = ColdStart(loadMs, compileMs, firstMs),
            before = before,
            after = after,
        ) to output
    }
}

/**
 * What the phone's state at both ends says of a run. Flags that cannot be judged are not there; whether an
 * accelerator fell back to the CPU is not for the app to say, since LiteRT does not tell it.
 */
private fun flags(before: DeviceState, after: DeviceState): Map<String, Boolean> {
    val ends = listOf(before, after)
    val flags = LinkedHashMap<String, Boolean>()
    val statuses = ends.mapNotNull { it.thermalStatus }
    if (statuses.isNotEmpty()) flags["throttled"] = statuses.any { it > 0 }
    val screens = ends.mapNotNull { it.screenOn }
    if (screens.isNotEmpty()) flags["screen_off"] = screens.any { !it }
    return flags
}

/** A file that Android does not let the app read where it lies. */
class Unreadable(val path: String, why: String?) :
    UserError("$path cannot be read by the app (${why ?: "no reason given"})")

/** An error as the host reads it, in place of a row; of a file that could not be read, its path too. */
fun errorJson(error: UserError): Map<String, Any?> {
    val json = errorJson(oneLine(error))
    return if (error is Unreadable) json + ("unreadable" to error.path) else json
}

/** An error in words, as the host reads it. */
fun errorJson(message: String): Map<String, Any?> =
    linkedMapOf("schema" to SCHEMA, "error" to oneLine(UserError(message)))

/** The bytes of a file. Throws [Unreadable] where the app may not have them. */
fun readWhole(path: String): ByteArray = try {
    File(path).readBytes()
} catch (error: IOException) {
    throw Unreadable(path, error.message)
} catch (error: SecurityException) {
    throw Unreadable(path, error.message)
}

/** Writes a file so that it is there whole or not at all. Throws [UserError] where it cannot. */
fun writeWhole(file: File, content: ByteArray) {
    val partial = File(file.path + ".part")
    try {
        file.parentFile?.mkdirs()
        FileOutputStream(partial).use {
            it.write(content)
            it.fd.sync()
        }
    } catch (error: IOException) {
        partial.delete()
        throw UserError("${file.path} cannot be written (${error.message})")
    }
    if (!partial.renameTo(file)) throw UserError("${file.path} cannot be written (rename failed)")
}

/** Pixels that need no photograph: a fixed sequence that looks random, since speed does not depend on the picture. */
private fun randomPixels(px: Int): Pixels {
    var state = 1
    return Pixels(
        ByteArray(3 * px * px) {
            state = state * 1664525 + 1013904223 // Numerical Recipes, 2nd edition, section 7.1
            (state ushr 24).toByte()
        },
        px, px,
    )
}
