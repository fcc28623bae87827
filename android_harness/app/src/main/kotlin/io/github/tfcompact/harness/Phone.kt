package io.github.tfcompact.harness

import android.app.ActivityManager
import android.content.Context
import android.content.Intent
import android.content.IntentFilter
import android.os.BatteryManager
import android.os.Build
import android.os.PowerManager
import android.os.SystemClock
import android.provider.Settings
import java.io.File
import java.text.SimpleDateFormat
import java.util.Date
import java.util.Locale
import java.util.TimeZone

/** The phone that the app runs on, by what Android tells an app without permissions. */
class Phone(private val context: Context) : Machine {
    private val power = context.getSystemService(Context.POWER_SERVICE) as PowerManager

    override val device: Device by lazy {
        val id = Settings.Secure.getString(context.contentResolver, Settings.Secure.ANDROID_ID) ?: ""
        val model = "${Build.MODEL}".lowercase(Locale.ROOT).replace(Regex("[^a-z0-9]+"), "-").trim('-')
        val soc = if (Build.VERSION.SDK_INT >= 31) "${Build.SOC_MANUFACTURER} ${Build.SOC_MODEL}" else Build.HARDWARE
        Device(
            "android", "android-$model-${sha256(id.toByteArray()).take(4)}", soc,
            Runtime.getRuntime().availableProcessors(),
            "Android ${Build.VERSION.RELEASE} (API ${Build.VERSION.SDK_INT})", soc, Build.FINGERPRINT,
        )
    }

    override fun state(): DeviceState {
        val battery = context.registerReceiver(null, IntentFilter(Intent.ACTION_BATTERY_CHANGED))
        fun extra(name: String): Int? = battery?.getIntExtra(name, -1)?.takeIf { it >= 0 }
        val level = extra(BatteryManager.EXTRA_LEVEL)
        val scale = extra(BatteryManager.EXTRA_SCALE)
        val cores = 0 until device.cores
        return DeviceState(
            governors = cores.mapNotNull { sysfs(it, "scaling_governor") },
            frequenciesKhz = cores.mapNotNull { sysfs(it, "scaling_cur_freq")?.toIntOrNull() },
            thermalStatus = if (Build.VERSION.SDK_INT >= 29) power.currentThermalStatus else null,
            thermalHeadroom = if (Build.VERSION.SDK_INT >= 30) headroom() else null,
            batteryPercent = if (level != null && scale != null && scale > 0) 100 * level / scale else null,
            batteryCelsius = extra(BatteryManager.EXTRA_TEMPERATURE)?.let { it / 10.0 },
            charging = extra(BatteryManager.EXTRA_PLUGGED)?.let { it != 0 },
            batterySaver = power.isPowerSaveMode,
            screenOn = power.isInteractive,
            airplaneMode = Settings.Global.getInt(context.contentResolver, Settings.Global.AIRPLANE_MODE_ON, 0) != 0,
        )
    }

    override fun nanoTime(): Long = SystemClock.elapsedRealtimeNanos()

    override fun peakMemoryMb(): Double? {
        val line = try {
            File("/proc/self/status").readLines().firstOrNull { it.startsWith("VmHWM:") }
        } catch (error: java.io.IOException) {
            null
        }
        return line?.filter { it.isDigit() }?.toDoubleOrNull()?.let { it * 1024 / 1e6 }
    }

    /** By the importance that Android gives this process; behind a screen that is off it is a lower one. */
    override fun inForeground(): Boolean {
        val process = ActivityManager.RunningAppProcessInfo()
        ActivityManager.getMyMemoryState(process)
        return process.importance <= ActivityManager.RunningAppProcessInfo.IMPORTANCE_FOREGROUND
    }

    override fun timestamp(): String {
        val format = SimpleDateFormat("yyyy-MM-dd'T'HH:mm:ss", Locale.ROOT)
        format.timeZone = TimeZone.getTimeZone("UTC")
        return format.format(Date()) + "+00:00"
    }

    private fun headroom(): Double? = power.getThermalHeadroom(0).toDouble().takeIf { it.isFinite() }

    private fun sysfs(core: Int, name: String): String? = try {
        File("/sys/devices/system/cpu/cpu$core/cpufreq/$name").readText().trim()
    } catch (error: java.io.IOException) {
        null // most phones hide some of these files from apps
    }
}
