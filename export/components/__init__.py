"""The networks of all systems as the pipeline calls them, ready to be traced."""
