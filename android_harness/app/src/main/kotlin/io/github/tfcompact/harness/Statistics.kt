package io.github.tfcompact.harness

import kotlin.math.abs
import kotlin.math.floor
import kotlin.math.sqrt

/** The [percent]-th percentile with linear interpolation, as `Measurement.percentile_ms` in Python. */
fun percentile(samples: List<Double>, percent: Double): Double {
    require(samples.isNotEmpty() && percent in 0.0..100.0) { "no samples, or $percent is not in 0..100" }
    val ordered = samples.sorted()
    val position = (ordered.size - 1) * percent / 100
    val low = floor(position).toInt()
    val high = minOf(low + 1, ordered.size - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)
}

/** The median of the distances from the median. */
fun medianAbsoluteDeviation(samples: List<Double>): Double {
    val median = percentile(samples, 50.0)
    return percentile(samples.map { abs(it - median) }, 50.0)
}

/** Count, first, extremes, mean, deviation (of the population) and percentiles of samples in ms. */
fun summarized(samples: List<Double>): Summary {
    val mean = samples.average()
    val deviation = sqrt(samples.sumOf { (it - mean) * (it - mean) } / samples.size)
    return Summary(
        samples.size,
        mapOf(
            "first_ms" to samples.first(), "min_ms" to samples.min(), "max_ms" to samples.max(), "mean_ms" to mean,
            "std_ms" to deviation, "p5_ms" to percentile(samples, 5.0), "p50_ms" to percentile(samples, 50.0),
            "p95_ms" to percentile(samples, 95.0),
        ),
    )
}
