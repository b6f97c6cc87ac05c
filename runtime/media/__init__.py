"""Files that a person gives - pictures and sounds - as arrays."""
