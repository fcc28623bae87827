package android.os;

/** What the app uses of Android's class, API 30: the packaged android.jar is of API 23. */
public final class PowerManager {
    PowerManager() {}

    public boolean isPowerSaveMode() {
        throw new UnsupportedOperationException("a stub");
    }

    public boolean isInteractive() {
        throw new UnsupportedOperationException("a stub");
    }

    public int getCurrentThermalStatus() { // API 29
        throw new UnsupportedOperationException("a stub");
    }

    public float getThermalHeadroom(int forecastSeconds) { // API 30
        throw new UnsupportedOperationException("a stub");
    }
}
