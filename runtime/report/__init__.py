"""A profile as people read it: a table, a comparison, a page with charts, a trace."""
