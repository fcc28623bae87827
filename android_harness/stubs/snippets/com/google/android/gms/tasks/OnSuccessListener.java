package com.google.android.gms.tasks;

/** Signatures to compile against; see android_harness/README.md. */
public interface OnSuccessListener<T> {
    void onSuccess(T result);
}
