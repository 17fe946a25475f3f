package org.example.classifier

import kotlin.math.abs
import kotlin.math.max
import kotlin.math.min

private const val BITS = 22 // fractional bits of filter weights
private const val GRAY = 128 // transparent pixels show it

/** The part of a row that a pixel of the resized row is made of. */
private class Part(val first: Int, val weights: LongArray)

/** From [low] to [high], with 32 bits, as in Pillow. */
private class Range(val low: Float, val high: Float) {
    fun span(): Double = (high - low).toDouble()
}

/**
 * Return the input `[channels, height, width]` of the model: the largest centered rectangle of its shape, resized with
 * antialiasing as Pillow does, and normalized. [pixels] are ARGB and not premultiplied.
 */
fun prepare(pixels: IntArray, width: Int, height: Int, contract: Contract): FloatArray {
    val divisor = greatestCommonDivisor(contract.width, contract.height)
    val across = contract.width / divisor
    val down = contract.height / divisor
    val unit = contract.crop * min(width.toDouble() / across, height.toDouble() / down)
    val left = (width - unit * across) / 2
    val top = (height - unit * down) / 2
    val columns = Range(left.toFloat(), (left + unit * across).toFloat())
    val rows = Range(top.toFloat(), (top + unit * down).toFloat())
    val area = contract.height * contract.width
    val input = FloatArray(contract.channels * area)
    for (channel in 0 until contract.channels) {
        val plane = plane(pixels, channel, contract.channels)
        val resized = resize(plane, width, height, columns, rows, contract)
        for (index in resized.indices) {
            val value = (resized[index].toInt() and 255) / 255.0
            input[channel * area + index] = ((value - contract.mean[channel]) / contract.std[channel]).toFloat()
        }
    }
    return input
}

private fun greatestCommonDivisor(a: Int, b: Int): Int = if (b == 0) a else greatestCommonDivisor(b, a % b)

private fun plane(pixels: IntArray, channel: Int, channels: Int) = ByteArray(pixels.size) { index ->
    val pixel = pixels[index]
    val opacity = pixel ushr 24
    fun over(shift: Int): Int {
        val value = (pixel ushr shift) and 255
        return (value * opacity + GRAY * (255 - opacity) + 127) / 255
    }
    val found = if (channels == 1) {
        (over(16) * 19595 + over(8) * 38470 + over(0) * 7471 + 32768) shr 16
    } else {
        over(16 - 8 * channel)
    }
    found.toByte()
}

private fun weight(x: Double, interpolation: String): Double {
    val t = abs(x)
    if (interpolation == "bilinear") return max(0.0, 1 - t)
    val a = -0.5
    if (t < 1) return ((a + 2) * t - (a + 3)) * t * t + 1
    return if (t < 2) (((t - 5) * t + 8) * t - 4) * a else 0.0
}

private fun parts(size: Int, range: Range, target: Int, interpolation: String): List<Part> {
    val scale = range.span() / target
    val stretch = max(1.0, scale) // antialiasing: the filter grows with the pixels
    val support = (if (interpolation == "bilinear") 1 else 2) * stretch
    return List(target) { index ->
        val center = range.low + (index + 0.5) * scale
        val first = max(0, (center - support + 0.5).toInt())
        val last = min(size, (center + support + 0.5).toInt())
        val weights = DoubleArray(last - first) { weight((first + it - center + 0.5) / stretch, interpolation) }
        val total = weights.sum()
        Part(first, LongArray(weights.size) {
            val fixed = weights[it] / total * (1 shl BITS)
            (fixed + (if (fixed < 0) -0.5 else 0.5)).toLong()
        })
    }
}

private fun toByte(sum: Long): Byte {
    val value = (sum + (1 shl (BITS - 1))) shr BITS
    return max(0L, min(255L, value)).toByte()
}

private fun alongRows(values: ByteArray, width: Int, height: Int, parts: List<Part>): ByteArray {
    val found = ByteArray(parts.size * height)
    for (y in 0 until height) {
        for (x in parts.indices) {
            val from = y * width + parts[x].first
            val weights = parts[x].weights
            var sum = 0L
            for (i in weights.indices) sum += weights[i] * (values[from + i].toInt() and 255)
            found[y * parts.size + x] = toByte(sum)
        }
    }
    return found
}

private fun alongColumns(values: ByteArray, width: Int, parts: List<Part>): ByteArray {
    val found = ByteArray(width * parts.size)
    for (y in parts.indices) {
        val weights = parts[y].weights
        for (x in 0 until width) {
            var sum = 0L
            for (i in weights.indices) sum += weights[i] * (values[(parts[y].first + i) * width + x].toInt() and 255)
            found[y * width + x] = toByte(sum)
        }
    }
    return found
}

private fun places(range: Range, target: Int): IntArray {
    val step = range.span() / target
    var place = range.low + step * 0.5
    return IntArray(target) { place.toInt().also { place += step } }
}

/**
 * Resize a box of one channel along rows and columns, rounding to 8 bits after each. Pillow 13 begins with the columns
 * of tall images; earlier versions always begin with the rows, which may change a value by one.
 */
private fun resize(values: ByteArray, width: Int, height: Int, across: Range, down: Range, contract: Contract): ByteArray {
    if (contract.interpolation == "nearest") {
        val columns = places(across, contract.width)
        val rows = places(down, contract.height)
        return ByteArray(rows.size * columns.size) { values[rows[it / columns.size] * width + columns[it % columns.size]] }
    }
    val columns = parts(width, across, contract.width, contract.interpolation)
    val rows = parts(height, down, contract.height, contract.interpolation)
    if (height > contract.height && height - contract.height > 2 * (width - contract.width)) {
        return alongRows(alongColumns(values, width, rows), width, contract.height, columns)
    }
    return alongColumns(alongRows(values, width, height, columns), contract.width, rows)
}
