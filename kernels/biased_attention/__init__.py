"""Attention whose scores a map of the queries raises, by statistics of the scores themselves."""
