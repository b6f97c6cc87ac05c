"""What a picture costs: measured, recorded, compared, drawn."""
