"""What runs a file on a device, one module each."""
