"""A desktop app that draws with a bundle, in its own process: what an app of your own may begin with."""
