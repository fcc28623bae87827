package io.github.tfcompact.harness

import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlin.math.abs
import kotlin.math.ceil

/** Pixels of an upright photograph, three bytes each in the order R, G, B, row by row. */
class Pixels(val rgb: ByteArray, val width: Int, val height: Int) {
    init {
        require(width > 0 && height > 0) { "$width x $height pixels" }
        require(rgb.size == 3 * width * height) { "$width x $height pixels in ${rgb.size} bytes" }
    }

    /** The same as numbers 0xAARRGGBB, all of them opaque: what a bitmap is made of. */
    fun argb(): IntArray = IntArray(width * height) { i ->
        (255 shl 24) or (level(3 * i) shl 16) or (level(3 * i + 1) shl 8) or level(3 * i + 2)
    }

    private fun level(at: Int): Int = rgb[at].toInt() and 255

    companion object {
        /**
         * An image of [width] times [height] pixels as it was stored, turned as [orientation] says and on white.
         *
         * [read] fills a row with numbers 0xAARRGGBB, colours not yet multiplied by their opacity. The orientation is
         * EXIF's, 1 to 8 (Exif 2.32, table 6, tag 274); any other number is 1, upright. Every pixel goes to its place
         * at once, so that no second image is held.
         */
        fun upright(width: Int, height: Int, orientation: Int, read: (y: Int, row: IntArray) -> Unit): Pixels {
            val aside = orientation in 5..8
            val (across, down) = if (aside) height to width else width to height
            val row = IntArray(width)
            val rgb = ByteArray(3 * width * height)
            for (y in 0 until height) {
                read(y, row)
                val (top, bottom) = y to height - 1 - y
                for (x in 0 until width) {
                    val (left, right) = x to width - 1 - x
                    val at = 3 * when (orientation) {
                        2 -> across * top + right // mirrored
                        3 -> across * bottom + right // by 180 degrees
                        4 -> across * bottom + left // upside down and mirrored
                        5 -> across * left + top // mirrored along the diagonal
                        6 -> across * left + bottom // to be turned right by 90 degrees
                        7 -> across * right + bottom // mirrored along the other diagonal
                        8 -> across * right + top // to be turned left by 90 degrees
                        else -> across * top + left
                    }
                    val alpha = row[x] ushr 24
                    for (c in 0 until 3) {
                        val value = row[x] ushr (16 - 8 * c) and 255
                        rgb[at + c] = ((value * alpha + 255 * (255 - alpha) + 127) / 255).toByte()
                    }
                }
            }
            return Pixels(rgb, across, down)
        }
    }
}

/**
 * From a photograph to what a file takes, as `tfcompact/data/images.py` and `tfcompact/lite.py` do it.
 *
 * [fitSquare] is Pillow's bilinear resampling in its own integers (libImaging/Resample.c): each target pixel is the
 * mean, weighted by a triangle, of all source pixels that it covers. What Android's own `createScaledBitmap` makes
 * instead is a sample of four pixels, which costs accuracy on any photograph larger than the network's input. The one
 * difference: rows are always narrowed before columns are, where Pillow 13 turns that about for tall photographs; as
 * what lies between is rounded to bytes, pixels then differ by one level at most.
 */
object Preprocessing {
    private const val PRECISION_BITS = 22

    /** Short side to [px], centre square. The result has [px] times [px] pixels. */
    fun fitSquare(image: Pixels, px: Int): Pixels {
        val side = minOf(image.width, image.height)
        val left = (image.width - side) / 2.0
        val top = (image.height - side) / 2.0
        if (image.width == px && image.height == px) return image
        val across = Weights(image.width, left, side.toDouble(), px)
        val down = Weights(image.height, top, side.toDouble(), px)
        val first = down.start[0]
        val rows = down.start[px - 1] + down.count[px - 1] - first
        val narrow = ByteArray(3 * px * rows)
        for (row in 0 until rows) {
            val from = 3 * image.width * (first + row)
            for (x in 0 until px) for (c in 0 until 3) {
                narrow[3 * (px * row + x) + c] = across.sum(image.rgb, x, from + 3 * across.start[x] + c, 3)
            }
        }
        val square = ByteArray(3 * px * px)
        for (y in 0 until px) {
            val from = 3 * px * (down.start[y] - first)
            for (i in 0 until 3 * px) square[3 * px * y + i] = down.sum(narrow, y, from + i, 3 * px)
        }
        return Pixels(square, px, px)
    }

    /**
     * The bytes of the input tensor for a square image: pixels for uint8, pixels less 128 for int8, floats in the
     * machine's order of bytes after [Normalization] for float32.
     */
    fun prepared(image: Pixels, file: ModelFile): ByteArray {
        require(image.width == file.imagePx && image.height == file.imagePx) { "the image has the wrong size" }
        val rgb = image.rgb
        return when (file.input.type) {
            "uint8" -> rgb.copyOf()
            "int8" -> ByteArray(rgb.size) { (rgb[it].toInt() xor 0x80).toByte() }
            else -> {
                val out = ByteBuffer.allocate(4 * rgb.size).order(ByteOrder.nativeOrder())
                val (mean, std) = file.normalization.mean to file.normalization.std
                for (i in rgb.indices) {
                    val channel = i % 3
                    val from = if (file.normalization.bgr) i - channel + 2 - channel else i
                    val pixel = (rgb[from].toInt() and 255).toFloat()
                    out.putFloat((pixel - mean[channel % mean.size].toFloat()) / std[channel % std.size].toFloat())
                }
                out.array()
            }
        }
    }

    /** For each target pixel, which source pixels it covers and with what weights, in units of 2^-22. */
    private class Weights(size: Int, from: Double, length: Double, target: Int) {
        val start = IntArray(target)
        val count = IntArray(target)
        private val weights = arrayOfNulls<IntArray>(target)

        init {
            val scale = length / target
            val stretch = maxOf(scale, 1.0)
            check(ceil(stretch) * 2 + 1 < Int.MAX_VALUE / 256) { "the image is too large" }
            for (i in 0 until target) {
                val centre = from + (i + 0.5) * scale
                start[i] = maxOf(0, (centre - stretch + 0.5).toInt())
                count[i] = minOf(size, (centre + stretch + 0.5).toInt()) - start[i]
                val raw = DoubleArray(count[i]) { maxOf(0.0, 1.0 - abs((it + start[i] - centre + 0.5) / stretch)) }
                val sum = raw.sum()
                weights[i] = IntArray(count[i]) { (0.5 + raw[it] / sum * (1 shl PRECISION_BITS)).toInt() }
            }
        }

        fun sum(bytes: ByteArray, target: Int, from: Int, step: Int): Byte {
            var sum = 1 shl (PRECISION_BITS - 1)
            val weight = weights[target]!!
            for (k in weight.indices) sum += (bytes[from + step * k].toInt() and 255) * weight[k]
            return (sum shr PRECISION_BITS).coerceIn(0, 255).toByte()
        }
    }
}

/** Probabilities of the raw bytes of an output tensor. */
fun probabilities(raw: ByteArray, output: TensorInfo): FloatArray {
    if (output.type == "float32") {
        val floats = ByteBuffer.wrap(raw).order(ByteOrder.nativeOrder()).asFloatBuffer()
        return FloatArray(floats.remaining()) { floats.get(it) }
    }
    val signed = output.type == "int8"
    if (!signed && output.type != "uint8") {
        throw UserError("the output is ${output.type}; uint8, int8 and float32 are known")
    }
    val (scale, zero) = output.quantization
        ?: throw UserError("the output says nothing of its scale; export the file again")
    return FloatArray(raw.size) { ((if (signed) raw[it].toInt() else raw[it].toInt() and 255) - zero) * scale }
}

/**
 * The [count] most probable labels with their probabilities, in falling order; of equal ones the first class first.
 */
fun best(probabilities: FloatArray, labels: List<String>, count: Int = 5): List<Pair<String, Float>> =
    probabilities.indices.sortedByDescending { probabilities[it] }.take(count).map { labels[it] to probabilities[it] }
