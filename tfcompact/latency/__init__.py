"""Tables of what operators cost on a device, and whole networks predicted from them."""
