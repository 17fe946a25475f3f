package org.example.classifier

import org.json.JSONArray
import org.json.JSONObject

/** Read model.json. */
fun readContract(text: String): Contract {
    val facts = JSONObject(text)
    val names = facts.getJSONArray("names")
    val size = facts.getJSONArray("input_size")
    return Contract(
        names = List(names.length()) { names.getString(it) },
        channels = size.getInt(0),
        height = size.getInt(1),
        width = size.getInt(2),
        mean = numbers(facts.getJSONArray("mean")),
        std = numbers(facts.getJSONArray("std")),
        crop = facts.getDouble("crop"),
        interpolation = facts.getString("interpolation"),
        multiLabel = facts.getString("activation") == "sigmoid",
        thresholds = facts.optJSONArray("thresholds")?.let { numbers(it) },
        temperature = facts.optDouble("temperature", 1.0),
        setThreshold = optional(facts, "set_threshold"),
        unknownThreshold = optional(facts, "unknown_threshold")
    )
}

private fun numbers(array: JSONArray) = DoubleArray(array.length()) { array.getDouble(it) }

private fun optional(facts: JSONObject, key: String) = if (facts.has(key)) facts.getDouble(key) else null
