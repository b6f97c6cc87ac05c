"""The interfaces over HTTP: OpenAI's, x2i's own, and AUTOMATIC1111's."""
