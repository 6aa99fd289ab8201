"""What all kernels stand on: launching, weights as fragments, and the device functions they share."""
