plugins {
    id("com.android.application")
    id("org.jetbrains.kotlin.android")
}

android {
    namespace = "org.example.classifier"
    compileSdk = 34

    defaultConfig {
        applicationId = "org.example.classifier"
        minSdk = 28 // ImageDecoder, which turns photos upright
        targetSdk = 34
        versionCode = 1
        versionName = "1.0"
    }

    // The model is read as it is.
    androidResources {
        noCompress += "onnx"
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }

    kotlinOptions {
        jvmTarget = "17"
    }
}

dependencies {
    implementation("com.microsoft.onnxruntime:onnxruntime-android:1.17.3")
}
