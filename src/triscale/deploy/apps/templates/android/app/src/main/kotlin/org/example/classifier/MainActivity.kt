package org.example.classifier

import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtSession
import android.app.Activity
import android.content.Intent
import android.graphics.Bitmap
import android.graphics.ColorSpace
import android.graphics.ImageDecoder
import android.net.Uri
import android.os.Bundle
import android.widget.Button
import android.widget.ImageView
import android.widget.LinearLayout
import android.widget.ScrollView
import android.widget.TextView
import java.io.IOException
import java.nio.FloatBuffer
import java.util.Locale
import java.util.concurrent.Executors

private const val PICK = 1
private const val SHOWN = 5

/** One screen: choose a photo, see its most probable classes. */
class MainActivity : Activity() {
    private val worker = Executors.newSingleThreadExecutor()
    private val environment = OrtEnvironment.getEnvironment()
    private lateinit var contract: Contract
    private lateinit var session: OrtSession
    private lateinit var picture: ImageView
    private lateinit var result: TextView

    override fun onCreate(state: Bundle?) {
        super.onCreate(state)
        contract = readContract(assets.open("model.json").use { it.readBytes().decodeToString() })
        session = environment.createSession(assets.open("model.onnx").use { it.readBytes() })
        picture = ImageView(this).apply { adjustViewBounds = true }
        result = TextView(this).apply { textSize = 18f }
        val choose = Button(this).apply {
            setText(R.string.choose)
            setOnClickListener { pick() }
        }
        val column = LinearLayout(this).apply {
            orientation = LinearLayout.VERTICAL
            val edge = (16 * resources.displayMetrics.density).toInt()
            setPadding(edge, edge, edge, edge)
            for (view in listOf(choose, picture, result)) addView(view)
        }
        setContentView(ScrollView(this).apply {
            fitsSystemWindows = true
            addView(column)
        })
    }

    override fun onDestroy() {
        worker.shutdown()
        super.onDestroy()
    }

    private fun pick() {
        val intent = Intent(Intent.ACTION_GET_CONTENT).setType("image/*").addCategory(Intent.CATEGORY_OPENABLE)
        startActivityForResult(intent, PICK)
    }

    @Deprecated("The replacement needs AndroidX")
    override fun onActivityResult(request: Int, code: Int, data: Intent?) {
        super.onActivityResult(request, code, data)
        val photo = data?.data ?: return
        if (request == PICK && code == RESULT_OK) show(photo)
    }

    private fun show(photo: Uri) {
        result.setText(R.string.working)
        worker.execute {
            try {
                val bitmap = decode(photo)
                val text = describe(classify(bitmap))
                runOnUiThread {
                    picture.setImageURI(photo)
                    result.text = text
                }
            } catch (error: IOException) {
                runOnUiThread { result.setText(R.string.unreadable) }
            }
        }
    }

    /** Decode a photo upright; pixels are not premultiplied by their opacity. */
    private fun decode(photo: Uri): Bitmap =
        ImageDecoder.decodeBitmap(ImageDecoder.createSource(contentResolver, photo)) { decoder, _, _ ->
            decoder.allocator = ImageDecoder.ALLOCATOR_SOFTWARE
            decoder.isUnpremultipliedRequired = true
            decoder.setTargetColorSpace(ColorSpace.get(ColorSpace.Named.SRGB))
        }

    private fun classify(bitmap: Bitmap): Answer {
        val pixels = IntArray(bitmap.width * bitmap.height)
        bitmap.getPixels(pixels, 0, bitmap.width, 0, 0, bitmap.width, bitmap.height)
        val input = prepare(pixels, bitmap.width, bitmap.height, contract)
        val shape = longArrayOf(1, contract.channels.toLong(), contract.height.toLong(), contract.width.toLong())
        OnnxTensor.createTensor(environment, FloatBuffer.wrap(input), shape).use { tensor ->
            session.run(mapOf(session.inputNames.first() to tensor)).use { outputs ->
                @Suppress("UNCHECKED_CAST")
                return answer((outputs[0].value as Array<FloatArray>)[0], contract)
            }
        }
    }

    private fun describe(answer: Answer): String {
        val lines = answer.ranking.take(SHOWN).map {
            val mark = if (it in answer.chosen) "● " else "○ "
            mark + contract.names[it] + String.format(Locale.ROOT, " %.1f%%", 100 * answer.probabilities[it])
        }.toMutableList()
        answer.likely?.let { members ->
            val names = members.joinToString { contract.names[it] }.ifEmpty { getString(R.string.none) }
            lines += getString(if (contract.multiLabel) R.string.labels_among else R.string.one_of, names)
        }
        if (answer.unknown) lines += getString(R.string.unknown)
        return lines.joinToString("\n")
    }
}
