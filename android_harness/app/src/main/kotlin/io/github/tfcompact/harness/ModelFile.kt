package io.github.tfcompact.harness

import java.io.ByteArrayOutputStream
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.security.MessageDigest
import java.util.zip.DataFormatException
import java.util.zip.Inflater

/** An affine quantization: `real = (q - zeroPoint) * scale`. */
data class Quantization(val scale: Float, val zeroPoint: Int)

/** An input or output: `type` is the schema's name in lower case. */
data class TensorInfo(val name: String, val type: String, val shape: List<Int>, val quantization: Quantization?)

/** How a pixel in 0..255 becomes what the network sees: `(pixel - mean) / std`, one or three of each. */
data class Normalization(val mean: List<Double>, val std: List<Double>, val bgr: Boolean)

/**
 * A classifier's `.tflite` file as it describes itself: its one input and output, and its metadata.
 *
 * The metadata is what TensorFlow Lite Support 0.4.4 lays down (`tfcompact/metadata.py` writes it): a flatbuffer
 * `ModelMetadata` in a buffer of the model, and a zip behind the model that holds the label file. Files of tfcompact
 * carry `tfcompact.json` there too, which alone can say BGR and is exact; it is taken where it is there.
 */
class ModelFile private constructor(
    val sha256: String,
    val bytes: Long,
    val format: String,
    val input: TensorInfo,
    val output: TensorInfo,
    val name: String,
    val labels: List<String>,
    val normalization: Normalization,
    val model: String,
    val run: String,
) {
    /** Height and width of the input in px. */
    val imagePx: Int get() = input.shape[1]

    companion object {
        /** Reads a file's bytes. Throws [UserError] where they are not such a file. */
        fun read(content: ByteArray): ModelFile = try {
            parse(content)
        } catch (error: RuntimeException) { // an index or offset that leads nowhere, a length that cannot be
            throw UserError("the file is damaged (${error.message}); export it again")
        }

        private fun parse(content: ByteArray): ModelFile {
            if (content.size < 16 || String(content, 4, 4, Charsets.ISO_8859_1) != "TFL3") {
                throw UserError("this is not a TFLite model; choose an exported .tflite file")
            }
            val model = Table.root(content)
            val graph = model.tables(SUBGRAPHS).firstOrNull() ?: throw UserError("the model has no graph")
            val tensors = graph.tables(TENSORS)
            val inputs = graph.ints(INPUTS)
            val outputs = graph.ints(OUTPUTS)
            if (inputs.size != 1 || outputs.size != 1) {
                throw UserError("a classifier has one input and one output, not ${inputs.size} and ${outputs.size}")
            }
            val input = tensor(tensors[inputs[0]])
            val output = tensor(tensors[outputs[0]])
            if (input.shape.size != 4 || input.shape[1] != input.shape[2] || input.shape[3] != 3) {
                throw UserError("the input has shape ${input.shape}; a square RGB image [1, px, px, 3] is needed")
            }
            if (input.type !in setOf("uint8", "int8", "float32")) {
                throw UserError("the input is ${input.type}; uint8, int8 and float32 are known")
            }
            val kinds = tensors.map { it.byte(TENSOR_TYPE) }.toSet()
            val metadata = Metadata.read(content, buffer(model))
            if (metadata.labels.size != output.shape.last()) {
                val (values, labels) = output.shape.last() to metadata.labels.size
                throw UserError("the file has $values outputs and $labels labels; export it again")
            }
            return ModelFile(
                sha256(content), content.size.toLong(), format(input.type, kinds), input, output,
                metadata.name, metadata.labels, metadata.normalization, metadata.model, metadata.run,
            )
        }

        /** The kind of file in tfcompact's words; with float input the weights tell. */
        private fun format(input: String, kinds: Set<Int>): String = when {
            input != "float32" -> input
            TYPES.indexOf("int16") in kinds -> "int16x8"
            TYPES.indexOf("float16") in kinds -> "float16"
            TYPES.indexOf("int8") in kinds -> "dynamic"
            else -> "float32"
        }

        private fun tensor(table: Table): TensorInfo {
            val quantization = table.tableOrNull(TENSOR_QUANTIZATION)
            val scales = quantization?.floats(SCALE) ?: listOf()
            val zeros = quantization?.longs(ZERO_POINT) ?: listOf()
            val type = TYPES.getOrNull(table.byte(TENSOR_TYPE)) ?: "unknown"
            return TensorInfo(
                table.text(TENSOR_NAME), type, table.ints(TENSOR_SHAPE),
                if (scales.size == 1) Quantization(scales[0], zeros.firstOrNull()?.toInt() ?: 0) else null,
            )
        }

        private fun buffer(model: Table): ByteArray {
            val entry = model.tables(METADATA).firstOrNull { it.text(0) == "TFLITE_METADATA" }
                ?: throw UserError("the file has no metadata (labels, normalization); export it with: make export")
            return model.tables(BUFFERS)[entry.int(1)].bytes(0)
        }

        // tensorflow/compiler/mlir/lite/schema/schema.fbs: a field's slot is its place in its table.
        private const val SUBGRAPHS = 2
        private const val BUFFERS = 4
        private const val METADATA = 6
        private const val TENSORS = 0
        private const val INPUTS = 1
        private const val OUTPUTS = 2
        private const val TENSOR_SHAPE = 0
        private const val TENSOR_TYPE = 1
        private const val TENSOR_NAME = 3
        private const val TENSOR_QUANTIZATION = 4
        private const val SCALE = 2
        private const val ZERO_POINT = 3
        private val TYPES = listOf(
            "float32", "float16", "int32", "uint8", "int64", "string", "bool", "int16", "complex64", "int8",
        )
    }
}

/** SHA-256 of bytes, in hexadecimal. */
fun sha256(content: ByteArray): String =
    MessageDigest.getInstance("SHA-256").digest(content)
        .joinToString("") { (it.toInt() and 255).toString(16).padStart(2, '0') }

private class Metadata(
    val name: String, val labels: List<String>, val normalization: Normalization, val model: String, val run: String,
) {
    companion object {
        fun read(content: ByteArray, entry: ByteArray): Metadata {
            if (entry.size < 8 || String(entry, 4, 4, Charsets.ISO_8859_1) != "M001") {
                throw UserError("the file's metadata is damaged; export it again")
            }
            val root = Table.root(entry)
            val graph = root.tables(3).single()
            val unit = graph.tables(2).single().tables(4).single { it.byte(0) == 1 }.table(1)
            val file = graph.tables(3).single().tables(6).single { it.byte(2) == 2 }
            val zip = Zip(content)
            val labels = zip.text(file.text(0)).lines().let { if (it.last().isEmpty()) it.dropLast(1) else it }
            val (mean, std) = unit.floats(0).map(Float::toDouble) to unit.floats(1).map(Float::toDouble)
            val official = Metadata(root.text(0), labels, Normalization(mean, std, false), "", "")
            return if ("tfcompact.json" in zip.names) own(zip.text("tfcompact.json"), official) else official
        }

        private fun own(text: String, official: Metadata): Metadata {
            val fields = Fields(Json.parse(text), "tfcompact.json")
            if (fields.int("schema") != 1) {
                throw UserError("tfcompact.json is of another schema than 1; update the app")
            }
            val given = Fields(fields.any("normalization"), "normalization")
            val own = Metadata(
                fields.text("name"),
                fields.list("labels") { it as? String ?: throw UserError("tfcompact.json: labels must be strings") },
                Normalization(given.doubles("mean"), given.doubles("std"), given.text("channel_order") == "bgr"),
                fields.text("model"), fields.text("run"),
            )
            given.end()
            val same = own.labels == official.labels && own.name == official.name &&
                agree(own.normalization.mean, official.normalization.mean) &&
                agree(own.normalization.std, official.normalization.std)
            if (!same) throw UserError("tfcompact.json and the official metadata disagree; export the file again")
            return own
        }

        /** Whether values are the same in 32 bits; one stands for three. */
        private fun agree(own: List<Double>, official: List<Double>): Boolean =
            official.indices.all { own[it % own.size].toFloat() == official[it].toFloat() }
    }
}

/** A flatbuffer's table, its fields found by slot: https://flatbuffers.dev/internals. An absent number is 0. */
private class Table(private val content: ByteBuffer, private val at: Int) {
    fun text(slot: Int): String {
        val field = field(slot) ?: return ""
        val start = field + content.getInt(field)
        return String(slice(start + 4, content.getInt(start)), Charsets.UTF_8)
    }

    fun byte(slot: Int): Int = field(slot)?.let { content.get(it).toInt() and 255 } ?: 0

    fun int(slot: Int): Int = field(slot)?.let { content.getInt(it) } ?: 0

    fun ints(slot: Int): List<Int> = vector(slot, 4) { content.getInt(it) }

    fun longs(slot: Int): List<Long> = vector(slot, 8) { content.getLong(it) }

    fun floats(slot: Int): List<Float> = vector(slot, 4) { content.getFloat(it) }

    fun bytes(slot: Int): ByteArray {
        val field = field(slot) ?: return ByteArray(0)
        val start = field + content.getInt(field)
        return slice(start + 4, content.getInt(start))
    }

    fun table(slot: Int): Table = tableOrNull(slot) ?: throw IllegalArgumentException("slot $slot is missing")

    fun tableOrNull(slot: Int): Table? = field(slot)?.let { Table(content, it + content.getInt(it)) }

    fun tables(slot: Int): List<Table> = vector(slot, 4) { Table(content, it + content.getInt(it)) }

    private fun <T> vector(slot: Int, size: Int, read: (Int) -> T): List<T> {
        val field = field(slot) ?: return listOf()
        val start = field + content.getInt(field)
        val length = content.getInt(start)
        require(length >= 0 && length <= (content.limit() - start) / size) { "a vector of $length elements" }
        return List(length) { read(start + 4 + size * it) }
    }

    private fun slice(start: Int, length: Int): ByteArray {
        require(length >= 0 && start >= 0 && length <= content.limit() - start) { "a block of $length bytes" }
        return content.array().copyOfRange(start, start + length)
    }

    private fun field(slot: Int): Int? {
        val vtable = at - content.getInt(at)
        val entry = 4 + 2 * slot
        if (entry >= (content.getShort(vtable).toInt() and 0xffff)) return null
        val offset = content.getShort(vtable + entry).toInt() and 0xffff
        return if (offset == 0) null else at + offset
    }

    companion object {
        fun root(content: ByteArray): Table {
            val buffer = ByteBuffer.wrap(content).order(ByteOrder.LITTLE_ENDIAN)
            return Table(buffer, buffer.getInt(0))
        }
    }
}

/**
 * The zip at the end of a file, whatever stands before it; entries stored or deflated (APPNOTE.TXT 6.3, 4.3 and
 * 4.4).
 */
private class Zip(content: ByteArray) {
    private val buffer = ByteBuffer.wrap(content).order(ByteOrder.LITTLE_ENDIAN)
    private val entries = LinkedHashMap<String, Int>()

    val names: Set<String> get() = entries.keys

    init {
        var end = content.size - 22
        val earliest = maxOf(0, end - 0xffff)
        while (end >= earliest && buffer.getInt(end) != 0x06054b50) end--
        require(end >= earliest) { "no zip with labels behind the model" }
        var at = buffer.getInt(end + 16)
        repeat(short(end + 10)) {
            require(buffer.getInt(at) == 0x02014b50) { "a broken zip directory" }
            entries[String(content, at + 46, short(at + 28), Charsets.UTF_8)] = at
            at += 46 + short(at + 28) + short(at + 30) + short(at + 32)
        }
    }

    fun text(name: String): String {
        val entry = entries[name] ?: throw IllegalArgumentException("no $name in the zip")
        val (packed, size) = buffer.getInt(entry + 20) to buffer.getInt(entry + 24)
        require(size in 0..LARGEST && packed >= 0) { "$name claims $size bytes" }
        val local = buffer.getInt(entry + 42)
        val start = local + 30 + short(local + 26) + short(local + 28)
        require(start >= 0 && packed <= buffer.limit() - start) { "$name is cut off" }
        val data = buffer.array().copyOfRange(start, start + packed)
        return String(if (short(entry + 10) == 0) data else inflated(data, size, name), Charsets.UTF_8)
    }

    private fun inflated(data: ByteArray, size: Int, name: String): ByteArray {
        val inflater = Inflater(true)
        try {
            inflater.setInput(data)
            val out = ByteArrayOutputStream(size)
            val part = ByteArray(4096)
            while (!inflater.finished() && out.size() <= size) {
                val count = inflater.inflate(part)
                if (count == 0 && (inflater.needsInput() || inflater.needsDictionary())) break
                out.write(part, 0, count)
            }
            require(out.size() == size) { "$name is damaged" }
            return out.toByteArray()
        } catch (error: DataFormatException) {
            throw IllegalArgumentException("$name is damaged")
        } finally {
            inflater.end()
        }
    }

    private fun short(at: Int): Int = buffer.getShort(at).toInt() and 0xffff

    private companion object {
        const val LARGEST = 1 shl 24
    }
}
