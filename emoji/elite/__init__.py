"""The training stages of ELITE's relative."""
