"""Systems that draw by several networks in turn, each on its own base: a prior, a decoder, super resolution."""
