package io.github.tfcompact.harness

import android.content.Context
import android.system.Os
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.BuiltinNpuAcceleratorProvider
import com.google.ai.edge.litert.CompiledModel
import com.google.ai.edge.litert.Environment
import com.google.ai.edge.litert.LiteRtException
import com.google.ai.edge.litert.TensorBuffer
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder

/** The version that `build.gradle.kts` asks for; the runtime's Kotlin interface does not tell its own. */
const val LITERT = "LiteRT 2.3.0"

/**
 * A network compiled by LiteRT's `CompiledModel` for one accelerator, and no other.
 *
 * `Options(GPU, CPU)` would run what the GPU does not take, or everything, on the CPU, and the app would report the
 * GPU. With GPU alone the compilation is to fail instead: where an operator is not taken, and where no GPU
 * accelerator is in the app. Throws [UserError] in both cases. An NPU's compiler may fail without an error all the
 * same, so the host looks in Android's log for what ran. Buffers are made once.
 */
class LiteRtEngine(context: Context, file: ModelFile, path: String, accelerator: String, threads: Int) : Engine {
    override val runtime = LITERT
    private val held = ArrayList<AutoCloseable>() // closed from the last to the first
    private val model: CompiledModel
    private val inputs: List<TensorBuffer>
    private val outputs: List<TensorBuffer>
    private val floatInput = file.input.type == "float32"
    private val floatOutput = file.output.type == "float32"

    init {
        try {
            val wanted = of(accelerator)
            if (wanted == Accelerator.NPU && !holdsNpuLibraries(context)) {
                throw UserError("this build of the app has no NPU's libraries; see android_harness/README.md")
            }
            val environment = environment(context, wanted)
            held.add(environment)
            val there = environment.getAvailableAccelerators()
            if (wanted !in there) {
                val names = there.joinToString { it.name.lowercase() }.ifEmpty { "none" }
                throw UserError("this phone or app has no $accelerator accelerator; available: $names")
            }
            val options = CompiledModel.Options(wanted)
            if (wanted == Accelerator.CPU) options.cpuOptions = CompiledModel.CpuOptions(threads, null, null)
            model = CompiledModel.create(path, options, environment)
            held.add(model)
            inputs = model.createInputBuffers()
            held.addAll(inputs)
            outputs = model.createOutputBuffers()
            held.addAll(outputs)
        } catch (error: LiteRtException) {
            close()
            val reason = oneLine(error)
            throw UserError("LiteRT does not run this file on the $accelerator ($reason); try another accelerator")
        } catch (error: Throwable) {
            close()
            throw error
        }
    }

    override fun write(input: ByteArray) {
        if (floatInput) {
            val floats = ByteBuffer.wrap(input).order(ByteOrder.nativeOrder()).asFloatBuffer()
            inputs[0].writeFloat(FloatArray(floats.remaining()) { floats.get(it) })
        } else {
            inputs[0].writeInt8(input)
        }
    }

    override fun run() = try {
        model.run(inputs, outputs)
    } catch (error: LiteRtException) {
        throw UserError("LiteRT failed in a run of this file (${oneLine(error)}); try another accelerator")
    }

    override fun read(): ByteArray {
        if (!floatOutput) return outputs[0].readInt8()
        val floats = outputs[0].readFloat()
        val out = ByteBuffer.allocate(4 * floats.size).order(ByteOrder.nativeOrder())
        floats.forEach(out::putFloat)
        return out.array()
    }

    override fun close() {
        held.asReversed().forEach(AutoCloseable::close)
        held.clear()
    }

    companion object {
        /** The accelerators that this app can use on this phone. Throws [UserError] where LiteRT does not start. */
        fun available(context: Context): List<String> = try {
            val npu = if (holdsNpuLibraries(context)) Accelerator.NPU else Accelerator.CPU
            environment(context, npu).use { it.getAvailableAccelerators() }
                .filter { it != Accelerator.NPU || npu == Accelerator.NPU }
                .map { it.name.lowercase() }
                .filter { it in Request.ACCELERATORS }
        } catch (error: LiteRtException) {
            throw UserError("LiteRT does not start on this phone (${oneLine(error)})")
        }

        /**
         * LiteRT, told where the NPU's libraries are if the NPU is wanted. It keeps no compiled programs for the next
         * start: a cold start is to be cold.
         */
        private fun environment(context: Context, wanted: Accelerator): Environment {
            if (wanted != Accelerator.NPU) return Environment.create()
            // Qualcomm's DSP loads its half of the runtime from here: Qualcomm AI Engine Direct, "Backend Library".
            Os.setenv("ADSP_LIBRARY_PATH", context.applicationInfo.nativeLibraryDir, true)
            return Environment.create(BuiltinNpuAcceleratorProvider(context))
        }

        /** Whether the libraries lie in the directory that LiteRT looks through; inside the APK it finds none. */
        private fun holdsNpuLibraries(context: Context): Boolean =
            File(context.applicationInfo.nativeLibraryDir).list().orEmpty().any { it.startsWith("libLiteRtDispatch") }

        private fun of(name: String): Accelerator = when (name) {
            "gpu" -> Accelerator.GPU
            "npu" -> Accelerator.NPU
            else -> Accelerator.CPU
        }
    }
}
