package io.github.tfcompact.harness

import android.graphics.Bitmap
import android.graphics.BitmapFactory
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
        val orientation = ExifInterface(file.path)
            .getAttributeInt(ExifInterface.TAG_ORIENTATION, ExifInterface.ORIENTATION_NORMAL)
        return pixels(bitmap, orientation).also { bitmap.recycle() }
    }

    /**
     * RGB of a bitmap, transparency on white, turned as EXIF's [orientation] says. The pixels are turned, and not the
     * bitmap: Android draws none whose colours are not multiplied by their opacity. One in the GPU's memory
     * (`Bitmap.Config.HARDWARE`) is copied, since it has no pixels to be read.
     */
    fun pixels(bitmap: Bitmap, orientation: Int = ExifInterface.ORIENTATION_NORMAL): Pixels {
        val readable = if (bitmap.config?.name == "HARDWARE") {
            bitmap.copy(Bitmap.Config.ARGB_8888, false) ?: throw UserError("no memory to copy the photograph")
        } else {
            bitmap
        }
        return Pixels.upright(readable.width, readable.height, orientation) { y, row ->
            readable.getPixels(row, 0, row.size, 0, y, row.size, 1)
        }
    }

    /** A bitmap of pixels, to be shown. */
    fun bitmap(image: Pixels): Bitmap =
        Bitmap.createBitmap(image.argb(), image.width, image.height, Bitmap.Config.ARGB_8888)
}
