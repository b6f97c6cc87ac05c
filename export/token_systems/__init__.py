"""Systems that draw tokens: each module turns the files of its authors into a plan and its graphs."""
