package io.github.tfcompact.harness

/** The version of the rows that this app writes and reads: `tfcompact/types.py`, `SCHEMA`. */
const val SCHEMA = 2

/** `types.Device`. */
data class Device(
    val kind: String,
    val name: String,
    val processor: String,
    val cores: Int,
    val system: String,
    val soc: String = "",
    val fingerprint: String = "",
) {
    fun toJson(): Map<String, Any?> = linkedMapOf(
        "kind" to kind, "name" to name, "processor" to processor, "cores" to cores, "system" to system,
        "soc" to soc, "fingerprint" to fingerprint,
    )

    companion object {
        fun from(json: Any?): Device = read(json, "Device") {
            val kind = it.text("kind")
            if (kind !in KINDS) throw UserError("Device: kind must be one of ${KINDS.joinToString()}, not '$kind'")
            Device(
                kind, it.text("name"), it.text("processor"), it.int("cores"), it.text("system"),
                it.textOr("soc", ""), it.textOr("fingerprint", ""),
            )
        }

        private val KINDS = listOf("host", "android", "emulated")
    }
}

/** `types.DeviceState`: what the device said of itself just before or after the runs, null where it did not say. */
data class DeviceState(
    val governors: List<String> = listOf(),
    val frequenciesKhz: List<Int> = listOf(),
    val thermalStatus: Int? = null,
    val thermalHeadroom: Double? = null,
    val batteryPercent: Int? = null,
    val batteryCelsius: Double? = null,
    val charging: Boolean? = null,
    val batterySaver: Boolean? = null,
    val screenOn: Boolean? = null,
    val airplaneMode: Boolean? = null,
) {
    fun toJson(): Map<String, Any?> = linkedMapOf(
        "governors" to governors, "frequencies_khz" to frequenciesKhz, "thermal_status" to thermalStatus,
        "thermal_headroom" to thermalHeadroom, "battery_percent" to batteryPercent,
        "battery_celsius" to batteryCelsius, "charging" to charging, "battery_saver" to batterySaver,
        "screen_on" to screenOn, "airplane_mode" to airplaneMode,
    )

    companion object {
        fun from(json: Any?): DeviceState = read(json, "DeviceState") {
            DeviceState(
                it.list("governors") { item -> item as? String
                    ?: throw UserError("DeviceState: governors are names") },
                it.doubles("frequencies_khz").map(Double::toInt),
                it.orNull("thermal_status", it::int), it.orNull("thermal_headroom", it::double),
                it.orNull("battery_percent", it::int), it.orNull("battery_celsius", it::double),
                it.orNull("charging", it::boolean), it.orNull("battery_saver", it::boolean),
                it.orNull("screen_on", it::boolean), it.orNull("airplane_mode", it::boolean),
            )
        }
    }
}

/** `types.ColdStart`, in ms: reading the file, compiling it for the accelerator, the first inference. */
data class ColdStart(val loadMs: Double?, val compileMs: Double?, val firstMs: Double?) {
    fun toJson(): Map<String, Any?> =
        linkedMapOf("load_ms" to loadMs, "compile_ms" to compileMs, "first_ms" to firstMs)

    companion object {
        fun from(json: Any?): ColdStart = read(json, "ColdStart") {
            ColdStart(
                it.orNull("load_ms", it::double), it.orNull("compile_ms", it::double),
                it.orNull("first_ms", it::double),
            )
        }
    }
}

/** `types.Summary`, in ms: the runs of a back end that keeps no samples. */
data class Summary(val count: Int, val times: Map<String, Double?>) {
    fun toJson(): Map<String, Any?> = linkedMapOf<String, Any?>("count" to count) + NAMES.associateWith { times[it] }

    companion object {
        val NAMES = listOf("first_ms", "min_ms", "max_ms", "mean_ms", "std_ms", "p5_ms", "p50_ms", "p95_ms")

        fun from(json: Any?): Summary = read(json, "Summary") {
            Summary(it.int("count"), NAMES.associateWith { name -> it.orNull(name, it::double) })
        }
    }
}

/** `types.OperatorTime`. */
data class OperatorTime(val name: String, val type: String, val meanMs: Double, val share: Double) {
    fun toJson(): Map<String, Any?> =
        linkedMapOf("name" to name, "type" to type, "mean_ms" to meanMs, "share" to share)

    companion object {
        fun from(json: Any?): OperatorTime = read(json, "OperatorTime") {
            OperatorTime(it.text("name"), it.text("type"), it.double("mean_ms"), it.double("share"))
        }
    }
}

/** `types.OutputCheck`. */
data class OutputCheck(val sha256: String, val hostSha256: String, val steps: Int?, val difference: Double) {
    fun toJson(): Map<String, Any?> = linkedMapOf(
        "sha256" to sha256, "host_sha256" to hostSha256, "steps" to steps, "difference" to difference,
    )

    companion object {
        fun from(json: Any?): OutputCheck = read(json, "OutputCheck") {
            OutputCheck(
                it.text("sha256"), it.text("host_sha256"), it.orNull("steps", it::int), it.double("difference"),
            )
        }
    }
}

/** `types.Accuracy`. */
data class Accuracy(val top1: Double, val top5: Double, val images: Int, val split: String, val dataDigest: String) {
    fun toJson(): Map<String, Any?> = linkedMapOf(
        "top1" to top1, "top5" to top5, "images" to images, "split" to split, "data_digest" to dataDigest,
    )

    companion object {
        fun from(json: Any?): Accuracy = read(json, "Accuracy") {
            Accuracy(it.double("top1"), it.double("top5"), it.int("images"), it.text("split"), it.text("data_digest"))
        }
    }
}

/**
 * `types.Measurement`: one file on one device, the row that the app, the phone's and the host's measurements share.
 *
 * Throws [UserError] where a row contradicts itself, by the rules of the Python class.
 */
data class Measurement(
    val model: String,
    val run: String,
    val artifact: String,
    val artifactSha256: String,
    val artifactBytes: Long,
    val format: String,
    val imagePx: Int,
    val device: Device,
    val runtime: String,
    val delegate: String,
    val threads: Int,
    val warmupRuns: Int,
    val wallMs: List<Double>,
    val started: String,
    val backend: String,
    val processMs: List<Double> = listOf(),
    val xnnpackPartitions: Int? = null,
    val delegatedNodes: Int? = null,
    val totalNodes: Int? = null,
    val peakMemoryMb: Double? = null,
    val accuracy: Accuracy? = null,
    val validity: Map<String, Boolean> = mapOf(),
    val instructions: Long? = null,
    val mode: String = "burst",
    val summary: Summary? = null,
    val cold: ColdStart? = null,
    val operators: List<OperatorTime> = listOf(),
    val output: OutputCheck? = null,
    val before: DeviceState? = null,
    val after: DeviceState? = null,
    val affinity: String = "",
    val command: String = "",
    val log: String = "",
    val softmax: Boolean = true,
) {
    init {
        val kind = BACKENDS[backend]
            ?: throw UserError("no back end named '$backend'; known: ${BACKENDS.keys.joinToString()}")
        if (mode !in MODES) throw UserError("mode must be one of ${MODES.joinToString()}, not '$mode'")
        if (kind != device.kind) {
            throw UserError("back end $backend runs on a device of kind $kind, not ${device.kind}")
        }
        val timed = wallMs.isNotEmpty() || processMs.isNotEmpty() || operators.isNotEmpty()
        if (kind == "emulated" && (timed || summary != null || cold != null)) {
            throw UserError("an emulated device has no latency; its samples and every other time must be empty")
        }
        if (!(wallMs + processMs).all { it.isFinite() && it >= 0 }) {
            throw UserError("latency samples must be finite and not negative")
        }
    }

    fun toJson(): Map<String, Any?> = linkedMapOf(
        "schema" to SCHEMA, "model" to model, "run" to run, "artifact" to artifact,
        "artifact_sha256" to artifactSha256, "artifact_bytes" to artifactBytes, "format" to format,
        "image_px" to imagePx, "device" to device.toJson(), "runtime" to runtime, "delegate" to delegate,
        "threads" to threads, "warmup_runs" to warmupRuns, "wall_ms" to wallMs, "process_ms" to processMs,
        "xnnpack_partitions" to xnnpackPartitions, "delegated_nodes" to delegatedNodes, "total_nodes" to totalNodes,
        "peak_memory_mb" to peakMemoryMb, "accuracy" to accuracy?.toJson(), "started" to started,
        "validity" to validity, "instructions" to instructions, "backend" to backend, "mode" to mode,
        "summary" to summary?.toJson(), "cold" to cold?.toJson(), "operators" to operators.map { it.toJson() },
        "output" to output?.toJson(), "before" to before?.toJson(), "after" to after?.toJson(),
        "affinity" to affinity, "command" to command, "log" to log,
        "softmax" to softmax,
    )

    companion object {
        /** Each back end with the kind of device it runs on: `records.backends.TABLE` of the Python side. */
        val BACKENDS = mapOf(
            "ai_edge_litert" to "host",
            "native" to "android",
            "benchmark_model" to "android",
            "litert_app" to "android",
            "arm64_insn_proxy" to "emulated",
        )
        private val MODES = listOf("burst", "sustained")

        /**
         * The row that [toJson] or Python's `to_json` wrote. Throws [UserError] on a key that is unknown or
         * missing.
         */
        fun from(json: Any?): Measurement = read(json, "Measurement") {
            val schema = it.int("schema")
            if (schema != SCHEMA) throw UserError("this measurement has schema $schema; this app reads $SCHEMA")
            Measurement(
                model = it.text("model"),
                run = it.text("run"),
                artifact = it.text("artifact"),
                artifactSha256 = it.text("artifact_sha256"),
                artifactBytes = it.long("artifact_bytes"),
                format = it.text("format"),
                imagePx = it.int("image_px"),
                device = Device.from(it.any("device")),
                runtime = it.text("runtime"),
                delegate = it.text("delegate"),
                threads = it.int("threads"),
                warmupRuns = it.int("warmup_runs"),
                wallMs = it.doubles("wall_ms"),
                started = it.text("started"),
                backend = it.text("backend"),
                processMs = it.doubles("process_ms"),
                xnnpackPartitions = it.orNull("xnnpack_partitions", it::int),
                delegatedNodes = it.orNull("delegated_nodes", it::int),
                totalNodes = it.orNull("total_nodes", it::int),
                peakMemoryMb = it.orNull("peak_memory_mb", it::double),
                accuracy = it.orNull("accuracy") { name -> Accuracy.from(it.any(name)) },
                validity = it.flags("validity"),
                instructions = it.orNull("instructions", it::long),
                mode = it.text("mode"),
                summary = it.orNull("summary") { name -> Summary.from(it.any(name)) },
                cold = it.orNull("cold") { name -> ColdStart.from(it.any(name)) },
                operators = it.list("operators", OperatorTime::from),
                output = it.orNull("output") { name -> OutputCheck.from(it.any(name)) },
                before = it.orNull("before") { name -> DeviceState.from(it.any(name)) },
                after = it.orNull("after") { name -> DeviceState.from(it.any(name)) },
                affinity = it.text("affinity"),
                command = it.text("command"),
                log = it.text("log"),
                softmax = it.boolean("softmax"),
            )
        }
    }
}

private fun <T> read(json: Any?, of: String, take: (Fields) -> T): T {
    val fields = Fields(json, of)
    val value = take(fields)
    fields.end()
    return value
}
