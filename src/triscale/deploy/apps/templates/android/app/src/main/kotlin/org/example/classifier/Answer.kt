package org.example.classifier

import kotlin.math.abs
import kotlin.math.exp
import kotlin.math.ln
import kotlin.math.ln1p
import kotlin.math.max

/**
 * What logits mean.
 *
 * [ranking] are the classes by probability, [chosen] those that are the answer, [likely] the prediction set or null, and
 * [unknown] is whether the photo is unlike the images that the model was made for.
 */
class Answer(
    val probabilities: DoubleArray,
    val ranking: List<Int>,
    val chosen: List<Int>,
    val likely: List<Int>?,
    val unknown: Boolean
)

/** Return the answer for the logits of a photo. */
fun answer(logits: FloatArray, contract: Contract): Answer {
    val values = DoubleArray(logits.size) { logits[it].toDouble() }
    val highest = values.fold(Double.NEGATIVE_INFINITY) { most, value -> max(most, value) }
    val exponentials = values.map { exp((it - highest) / contract.temperature) }
    val total = exponentials.sum()
    val probabilities = DoubleArray(values.size) {
        if (contract.multiLabel) 1 / (1 + exp(-values[it] / contract.temperature)) else exponentials[it] / total
    }
    val ranking = probabilities.indices.sortedByDescending { probabilities[it] }
    val chosen = if (contract.multiLabel) {
        ranking.filter { probabilities[it] >= (contract.thresholds?.get(it) ?: 0.5) }
    } else {
        ranking.take(1)
    }
    val likely = contract.setThreshold?.let { limit ->
        ranking.filter { probabilities[it] >= limit || (!contract.multiLabel && it == ranking[0]) }
    }
    val energy = if (contract.multiLabel) {
        values.map { max(0.0, it) + ln1p(exp(-abs(it))) }.sum()
    } else {
        highest + ln(values.map { exp(it - highest) }.sum())
    }
    return Answer(probabilities, ranking, chosen, likely, contract.unknownThreshold?.let { energy < it } ?: false)
}
