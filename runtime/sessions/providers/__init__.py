"""Any execution provider of ONNX Runtime: which are here, what they take of a graph, and sessions on them."""
