package org.example.classifier

/** What the input and the outputs of the model are. */
class Contract(
    val names: List<String>,
    val channels: Int,
    val height: Int,
    val width: Int,
    val mean: DoubleArray,
    val std: DoubleArray,
    val crop: Double,
    val interpolation: String,
    val multiLabel: Boolean,
    val thresholds: DoubleArray?,
    val temperature: Double,
    val setThreshold: Double?,
    val unknownThreshold: Double?
)
