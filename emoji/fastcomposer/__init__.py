"""The training stages of FastComposer's relative."""
