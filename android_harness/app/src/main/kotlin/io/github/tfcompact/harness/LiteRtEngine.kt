package io.github.tfcompact.harness

import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel
import com.google.ai.edge.litert.Environment
import com.google.ai.edge.litert.LiteRtException
import com.google.ai.edge.litert.TensorBuffer
import java.nio.ByteBuffer
import java.nio.ByteOrder

/** The version that `build.gradle.kts` asks for; the runtime's Kotlin interface does not tell its own. */
const val LITERT = "LiteRT 2.3.0"

/**
 * A network compiled by LiteRT's `CompiledModel` for one accelerator, and no other.
 *
 * `Options(GPU, CPU)` would run what the GPU does not take, or everything, on the CPU, and the app would report the
 * GPU. With GPU alone the compilation fails instead: where an operator is not taken, and where no GPU accelerator is
 * in the app. Throws [UserError] in both cases. Buffers are made once.
 */
class LiteRtEngine(file: ModelFile, path: String, accelerator: String, threads: Int) : Engine {
    override val runtime = LITERT
    private val environment = Environment.create()
    private val model: CompiledModel
    private val inputs: List<TensorBuffer>
    private val outputs: List<TensorBuffer>
    private val floatInput = file.input.type == "float32"
    private val floatOutput = file.output.type == "float32"

    init {
        try {
            val wanted = of(accelerator)
            val there = environment.getAvailableAccelerators()
            if (wanted !in there) {
                val names = there.joinToString { it.name.lowercase() }.ifEmpty { "none" }
                throw UserError("this phone or app has no $accelerator accelerator; available: $names")
            }
            val options = CompiledModel.Options(wanted)
            if (wanted == Accelerator.CPU) options.cpuOptions = CompiledModel.CpuOptions(threads, null, null)
            model = CompiledModel.create(path, options, environment)
            inputs = model.createInputBuffers()
            outputs = model.createOutputBuffers()
        } catch (error: LiteRtException) {
            environment.close()
            val reason = error.message
            throw UserError("LiteRT does not run this file on the $accelerator ($reason); try another accelerator")
        } catch (error: UserError) {
            environment.close()
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

    override fun run() = model.run(inputs, outputs)

    override fun read(): ByteArray {
        if (!floatOutput) return outputs[0].readInt8()
        val floats = outputs[0].readFloat()
        val out = ByteBuffer.allocate(4 * floats.size).order(ByteOrder.nativeOrder())
        floats.forEach(out::putFloat)
        return out.array()
    }

    override fun close() {
        (inputs + outputs).forEach(TensorBuffer::close)
        model.close()
        environment.close()
    }

    companion object {
        /** The accelerators that this app can use on this phone. */
        fun available(): List<String> =
            Environment.create().use { it.getAvailableAccelerators() }
                .map { it.name.lowercase() }
                .filter { it in Request.ACCELERATORS }

        private fun of(name: String): Accelerator = when (name) {
            "gpu" -> Accelerator.GPU
            "npu" -> Accelerator.NPU
            else -> Accelerator.CPU
        }
    }
}
