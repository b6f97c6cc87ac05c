"""The gate: whole runs of a bundle, compared with what the same system drew in float32."""
