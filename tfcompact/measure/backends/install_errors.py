"""What to do where a phone does not take an app, by the reason that Android gives.

The reasons are those of AOSP's `PackageManager` (`INSTALL_FAILED_…`), as `adb install` prints them.
"""

from __future__ import annotations

REMEDIES = {
    "INSTALL_FAILED_UPDATE_INCOMPATIBLE": "remove the other build first: adb -s {serial} uninstall {package}",
    "INSTALL_FAILED_VERSION_DOWNGRADE": "remove the newer build first: adb -s {serial} uninstall {package}",
    "INSTALL_FAILED_INSUFFICIENT_STORAGE": "free some space on the phone",
    "INSTALL_FAILED_USER_RESTRICTED": "allow installing by USB in the phone's developer options, and confirm there",
    "INSTALL_FAILED_VERIFICATION_FAILURE": "switch off verifying apps by USB in the developer options",
    "INSTALL_FAILED_NO_MATCHING_ABIS": "the APK is for another processor; build it with the phone's",
    "INSTALL_FAILED_OLDER_SDK": "the phone's Android is too old for the app",
    "INSTALL_FAILED_TEST_ONLY": "build the release, not the one that Android Studio runs",
    "INSTALL_FAILED_ABORTED": "look at the phone's screen for a question, and try again",
    "INSTALL_PARSE_FAILED_NO_CERTIFICATES": "the APK is not signed; build it anew",
    "INSTALL_PARSE_FAILED_NOT_APK": "the file is no APK; build it anew",
}
OTHERWISE = "look at the phone's screen for a question, and try again"


def remedy(reason: str, serial: str, package: str) -> str:
    """What to do about that reason."""
    return REMEDIES.get(reason, OTHERWISE).format(serial=serial, package=package)
