import android.graphics.Bitmap

/**
 * The centre square of a photograph, as the network saw it in training; the libraries would stretch the whole.
 *
 * A bitmap that lies in the GPU's memory (`Bitmap.Config.HARDWARE`, what image loaders like Coil and Glide give) has no
 * pixels to be read, so it is copied first. `BitmapFactory` does not turn a photograph as its EXIF says: turn it before,
 * by `ExifInterface.TAG_ORIENTATION`, or a photograph taken upright lies on its side here (`Photographs.read` of the
 * app does it).
 */
fun square(photograph: Bitmap): Bitmap {
    val side = minOf(photograph.width, photograph.height)
    val readable = if (photograph.config?.name == "HARDWARE") {
        checkNotNull(photograph.copy(Bitmap.Config.ARGB_8888, false)) { "no memory to copy the photograph" }
    } else {
        photograph
    }
    return Bitmap.createBitmap(readable, (readable.width - side) / 2, (readable.height - side) / 2, side, side)
}
