"""The committed recordings of the pictures' names."""

import numpy as np
from x2i.emoji.world.spoken import RECORDINGS, spoken_words
from x2i.emoji.world.vocabulary import languages, picture_keys


def test_every_picture_is_named_by_two_voices_in_each_language():
    words = spoken_words()
    by_voice = {}
    for word in words:
        by_voice.setdefault((word.language, word.voice), []).append(word.key)
    assert all(tuple(keys) == picture_keys() for keys in by_voice.values())
    spoken = [language for language, _ in by_voice]
    assert len(spoken) == 2 * len(set(spoken)) == 10 and set(spoken) <= set(languages())


def test_recordings_are_words_and_not_silence():
    for word in spoken_words():
        assert word.rate == 16000 and word.samples.dtype == np.float32 and word.samples.ndim == 1
        assert 0.1 < len(word.samples) / word.rate < 1.5, (word.key, word.language)
        assert np.abs(word.samples).max() > 0.1, (word.key, word.language)


def test_all_together_stay_below_a_megabyte_and_a_half():
    assert sum(path.stat().st_size for path in RECORDINGS.iterdir()) < 1.5e6
