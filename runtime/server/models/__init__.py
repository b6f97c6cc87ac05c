"""The bundles of a server: opened on demand, their steps shared between requests, their encodings kept."""
