"""The bundle: what its manifest says, and how the folder is read, checked and written."""
