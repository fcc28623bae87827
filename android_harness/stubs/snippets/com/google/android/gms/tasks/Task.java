package com.google.android.gms.tasks;

/** Signatures to compile against; see android_harness/README.md. */
public abstract class Task<T> {
    public abstract Task<T> addOnSuccessListener(OnSuccessListener<? super T> listener);

    public abstract Task<T> addOnFailureListener(OnFailureListener listener);
}
