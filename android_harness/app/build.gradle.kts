// One module. The Android plugin compiles Kotlin itself from version 9 on: no Kotlin plugin is applied.
plugins {
    id("com.android.application") version "9.3.0"
}

android {
    namespace = "io.github.tfcompact.harness"
    compileSdk = 36

    defaultConfig {
        applicationId = "io.github.tfcompact.harness"
        minSdk = 24
        targetSdk = 36
        versionCode = 1
        versionName = "0.1"
    }

    // A model that is compressed cannot be mapped into memory.
    androidResources {
        noCompress += "tflite"
    }

    // LiteRT looks for the NPU's libraries in a directory of files, not inside the APK.
    packaging {
        jniLibs {
            useLegacyPackaging = true
        }
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }

    buildTypes {
        release {
            isMinifyEnabled = false
            // Benchmarks are of a release build; the debug key lets it be installed without a store.
            signingConfig = signingConfigs.getByName("debug")
        }
    }
}

dependencies {
    // LiteRtEngine.kt names this version in every row.
    implementation("com.google.ai.edge.litert:litert:2.3.0")
    // Without it there is no GPU accelerator, and the app says so.
    implementation("com.google.ai.edge.litert:litert-gpu:2.3.0")
}
