package com.google.android.gms.tasks;

/** Signatures to compile against; see android_harness/README.md. */
public interface OnFailureListener {
    void onFailure(Exception e);
}
