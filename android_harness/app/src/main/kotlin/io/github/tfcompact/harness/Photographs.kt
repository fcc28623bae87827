package io.github.tfcompact.harness

import android.graphics.Bitmap
import android.graphics.BitmapFactory
import android.graphics.Matrix
import android.media.ExifInterface
import java.io.File

/** Photographs from files, upright and on white. */
object Photographs {
    private const val MOST_PIXELS = 12_000_000L

    /**
     * The pixels of an image file. Of one with more than twelve million pixels, only every second, fourth, … row and
     * column is decoded, as long as the short side stays four times [px] or more: a phone's memory is small.
     *
     * Throws [UserError] where it is not an image that Android reads.
     */
    fun read(file: File, px: Int): Pixels {
        val bounds = BitmapFactory.Options()
        bounds.inJustDecodeBounds = true
        BitmapFactory.decodeFile(file.path, bounds)
        if (bounds.outWidth <= 0 || bounds.outHeight <= 0) {
            throw UserError("this is not an image that Android reads; choose another")
        }
        val options = BitmapFactory.Options()
        var step = 1
        while (bounds.outWidth.toLong() * bounds.outHeight / step / step > MOST_PIXELS &&
            minOf(bounds.outWidth, bounds.outHeight) / (2 * step) >= 4 * px
        ) {
            step *= 2
        }
        options.inSampleSize = step
        options.inPremultiplied = false
        val bitmap = BitmapFactory.decodeFile(file.path, options)
            ?: throw UserError("the image is damaged; choose another")
        return pixels(upright(bitmap, ExifInterface(file.path)))
    }

    /** RGB of a bitmap, transparency on white. */
    fun pixels(bitmap: Bitmap): Pixels {
        val (width, height) = bitmap.width to bitmap.height
        val row = IntArray(width)
        val rgb = ByteArray(3 * width * height)
        for (y in 0 until height) {
            bitmap.getPixels(row, 0, width, 0, y, width, 1)
            for (x in 0 until width) {
                val alpha = row[x] ushr 24
                for (c in 0 until 3) {
                    val value = row[x] ushr (16 - 8 * c) and 255
                    rgb[3 * (width * y + x) + c] = ((value * alpha + 255 * (255 - alpha) + 127) / 255).toByte()
                }
            }
        }
        return Pixels(rgb, width, height)
    }

    private fun upright(bitmap: Bitmap, exif: ExifInterface): Bitmap {
        val matrix = Matrix()
        when (exif.getAttributeInt(ExifInterface.TAG_ORIENTATION, ExifInterface.ORIENTATION_NORMAL)) {
            ExifInterface.ORIENTATION_FLIP_HORIZONTAL -> matrix.setScale(-1f, 1f)
            ExifInterface.ORIENTATION_ROTATE_180 -> matrix.setRotate(180f)
            ExifInterface.ORIENTATION_FLIP_VERTICAL -> matrix.setScale(1f, -1f)
            ExifInterface.ORIENTATION_TRANSPOSE -> {
                matrix.setRotate(90f)
                matrix.postScale(-1f, 1f)
            }
            ExifInterface.ORIENTATION_ROTATE_90 -> matrix.setRotate(90f)
            ExifInterface.ORIENTATION_TRANSVERSE -> {
                matrix.setRotate(-90f)
                matrix.postScale(-1f, 1f)
            }
            ExifInterface.ORIENTATION_ROTATE_270 -> matrix.setRotate(-90f)
            else -> return bitmap
        }
        return Bitmap.createBitmap(bitmap, 0, 0, bitmap.width, bitmap.height, matrix, true)
    }
}
