"""The formats that other tools write, read as they are: a file a family, from stored tensors to `QuantizedTensor`."""
