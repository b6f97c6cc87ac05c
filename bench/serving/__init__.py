"""The server under load: beside the same bundle in process, and beside stable-diffusion.cpp's server."""
