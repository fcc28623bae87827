"""Every way of making a network smaller, on one network and one set of images, in one table."""
