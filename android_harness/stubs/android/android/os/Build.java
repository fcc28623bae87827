package android.os;

/** What the app uses of Android's class, API 31: the packaged android.jar is of API 23. */
public class Build {
    public static final String MODEL = null;
    public static final String HARDWARE = null;
    public static final String FINGERPRINT = null;
    public static final String SOC_MANUFACTURER = null; // API 31
    public static final String SOC_MODEL = null; // API 31

    public static class VERSION {
        public static final String RELEASE = null;
        public static final int SDK_INT = Integer.parseInt("36"); // not a constant, or javac would fold comparisons
    }
}
