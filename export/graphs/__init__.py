"""Tools on ONNX graphs: files, names of parts, ends, and runs in memory."""
