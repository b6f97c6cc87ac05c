"""Pictures that a system draws from: references, subjects, and what it begins with."""
