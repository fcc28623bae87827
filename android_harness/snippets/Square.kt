import android.graphics.Bitmap

/**
 * The centre square of a photograph, as the network saw it in training; the libraries below would stretch the
 * whole.
 */
fun square(photograph: Bitmap): Bitmap {
    val side = minOf(photograph.width, photograph.height)
    return Bitmap.createBitmap(photograph, (photograph.width - side) / 2, (photograph.height - side) / 2, side, side)
}
