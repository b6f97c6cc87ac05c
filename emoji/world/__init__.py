"""What the small models know: pictures, captions, subjects, spoken words, and who judges drawings of them."""
