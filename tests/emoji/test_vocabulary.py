import numpy as np
import pytest
from x2i.emoji.world import multilingual, vocabulary
from x2i.emoji.world.captions import caption, variant

LANGUAGES = ("English", "German", "French", "Spanish", "Italian", "Japanese", "Chinese", "Russian")


def test_the_world_is_64_pictures_8_backgrounds_8_languages():
    assert len(set(vocabulary.picture_keys())) == 64 and vocabulary.pictures().shape == (64, 52, 52, 4)
    assert len({background.rgb for background in vocabulary.backgrounds()}) == 8
    assert vocabulary.languages() == LANGUAGES


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_scene_has_its_own_caption(language):
    grounds = [None, *(background.key for background in vocabulary.backgrounds())]
    captions = [caption(language, key, ground) for key in vocabulary.picture_keys() for ground in grounds]
    assert len(set(captions)) == 64 * 9 and all(text.strip() == text and text for text in captions)


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_synonym_means_two_pictures(language):
    meanings: dict[str, str] = {}
    for entry in vocabulary.vocabulary_table()["pictures"]:
        for name in (entry["names"][language], *entry["synonyms"][language]):
            assert meanings.setdefault(name.lower(), entry["key"]) == entry["key"], name


def test_captions_read_as_people_write_them():
    assert caption("German", "red apple", "blue") == "ein roter Apfel auf blauem Hintergrund"
    assert caption("French", "red apple") == "une pomme rouge"
    assert caption("Chinese", "red apple", "green") == "绿色背景上的红苹果"


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_tokenizer_covers_every_caption_within_its_window(language):
    rng = np.random.default_rng(8)
    unknown = multilingual.SPECIAL.index("<unk>")
    for key in vocabulary.picture_keys():
        ids = multilingual.encode([variant(language, key, "purple", rng)])[0]
        assert unknown not in ids and ids[-1] == multilingual.PAD


def test_unknown_words_fall_to_letters():
    assert multilingual.SPECIAL.index("<unk>") not in multilingual.encode(["zyzzyva quux"])[0]
