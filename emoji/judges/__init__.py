"""Commands that draw with an embedded model and count how often a judge calls the result right."""
