"""Passes from ONNX file to ONNX file that lower a graph's precision."""
