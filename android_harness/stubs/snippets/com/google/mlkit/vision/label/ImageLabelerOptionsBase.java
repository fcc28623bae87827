package com.google.mlkit.vision.label;

/** Signatures to compile against; see android_harness/README.md. */
public abstract class ImageLabelerOptionsBase {}
