"""Words of captions from four kinds of tokenizer, as real ones are built: what a reader sees, whatever the pieces."""

import random
from itertools import pairwise

import pytest
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from mmel_cli.model.words import without, words_of
from mmel_cli.types import Word

CORPUS = [
    "a red dog on the grass, two blue cats and a small striped circle",
    "café cafe noir naïve Straße",
    "一只红色的狗 赤い犬が走る コーヒー",
    "한국어 개 고양이",
]
ALPHABET = sorted({letter for line in CORPUS for letter in line.lower() if not letter.isspace()})
SPECIAL = ["<unk>", "<s>", "</s>"]


def byte_level():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(CORPUS * 5, trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet))
    return tokenizer


def word_level():
    words = sorted({word for line in CORPUS for word in line.lower().replace(",", "").split()})
    tokenizer = Tokenizer(models.WordLevel({w: n for n, w in enumerate([*SPECIAL, *words])}, "<unk>"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    return tokenizer


def word_piece():
    tokenizer = Tokenizer(models.WordPiece(unk_token=SPECIAL[0]))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=SPECIAL, initial_alphabet=ALPHABET)
    tokenizer.train_from_iterator(CORPUS * 5, trainer)
    return tokenizer


def unigram():
    """As SigLIP's: lower case, punctuation dropped, spaces as a mark that begins a word."""
    tokenizer = Tokenizer(models.Unigram())
    dropped = normalizers.Replace(Regex(r"[!-/:-@\[-`{-~。、]"), "")
    tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), dropped, normalizers.Strip()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=120, special_tokens=SPECIAL, unk_token=SPECIAL[0], initial_alphabet=ALPHABET
    )
    tokenizer.train_from_iterator(CORPUS * 5, trainer)
    return tokenizer


KINDS = {"byte-level": byte_level, "word-level": word_level, "word-piece": word_piece, "unigram": unigram}


@pytest.fixture(scope="module", params=KINDS)
def read(request):
    """From a caption to its words."""
    tokenizer = KINDS[request.param]()
    tokenizer.encode_special_tokens = True

    def words(caption):
        encoding = tokenizer.encode(caption, add_special_tokens=False)
        return words_of(caption, encoding.offsets, len(encoding.offsets))

    words.kind = request.param
    return words


SPACED = [
    "a red dog",
    "  a red,  DOG!\ton the\u3000grass. ",
    "café, cafe\u0301 noir Straße İstanbul",
    "two 😀😀 and 👩‍👩‍👧 or 🐕🏽 ❤️ 🇩🇪",
    "<s> a dog </s> <unk> <|endoftext|> [CLS]",
    "ain't it (a dog)? yes-no",
    "개 고양이, 한국어",
    " ".join(random.Random(0).choices(["a", "dog,", "zebra", "café"], k=200)),
]


@pytest.mark.parametrize("caption", SPACED)
def test_where_words_are_spaced_they_are_what_stands_between_spaces(read, caption):
    assert [word.text for word in read(caption)] == caption.split()


MIXED = [
    *SPACED,
    "一只红色的狗。",
    "「赤い犬」が走る、コーヒー と dog",
    "狗dog狗 か\u3099か\u3099 葛\U000e0100城 e\u0301狗\u0301x",
    "a狗, b",
]


@pytest.mark.parametrize("caption", MIXED)
def test_words_are_places_of_the_caption_in_order_that_hold_all_of_it_but_spaces(read, caption):
    words = read(caption)
    assert all(caption[word.start : word.end] == word.text.strip() == word.text for word in words)
    assert all(one.end <= other.start for one, other in pairwise(words))
    covered = {at for word in words for at in range(word.start, word.end)}
    assert "".join(c for at, c in enumerate(caption) if at not in covered).strip() == ""


def test_han_and_kana_make_words_of_their_own(read):
    words = [word.text for word in read("一只红色的狗。 a赤い犬b")]
    if read.kind == "word-level":  # a run of letters is one token of it
        assert words == ["一只红色的狗。", "a赤い犬b"]
    else:
        assert len(words) > 5
        assert words[-1] == "b"
        assert "。" not in words  # it stays with what it follows
        assert any(word.endswith("狗。") for word in words)


@pytest.mark.parametrize("text", ["👩‍👩‍👧", "❤️", "🏳️‍🌈", "か\u3099", "葛\U000e0100", "狗\u0301", "👍🏽"])
def test_what_a_reader_sees_as_one_sign_is_never_parted(read, text):
    for caption in (text, f"a {text} dog", f"{text}狗", f"狗{text}"):
        cuts = {place for word in read(caption) for place in (word.start, word.end)}
        start = caption.index(text)
        assert not cuts & set(range(start + 1, start + len(text))), caption


def test_dropped_punctuation_belongs_to_the_word_that_it_touches_or_follows(read):
    if read.kind != "unigram":
        pytest.skip("drops nothing")
    assert [word.text for word in read('"a "red" - dog... !')] == ['"a', '"red" -', "dog... !"]
    assert [word.text for word in read("... a dog")] == ["... a", "dog"]
    assert [word.text for word in read("...a,dog")] == ["...a,dog"]


@pytest.mark.parametrize("caption", ["?!", " ... ", "", "  "])
def test_a_caption_of_punctuation_alone(read, caption):
    nothing = read.kind == "unigram" or not caption.strip()
    assert [word.text for word in read(caption)] == ([] if nothing else [caption.strip()])


@pytest.mark.parametrize(
    ("caption", "word", "left"),
    [
        ("a red dog", "a", "red dog"),
        ("a red dog", "red", "a dog"),
        ("a red dog", "dog", "a red"),
        ("a  red\t\ndog", "red", "a  dog"),
        ("  dog ", "dog", "  "),
        ("dog", "dog", ""),
        ("a dog ", "dog", "a "),
        ("一只狗 x", "狗", "一只 x"),
        ("一只狗 x", "只", "一狗 x"),
        ("a 狗犬 x", "狗", "a 犬 x"),
        ("a dog, b", "dog,", "a b"),
    ],
)
def test_a_word_is_cut_out_with_one_run_of_whitespace(caption, word, left):
    start = caption.index(word)
    assert without(caption, Word(word, start, start + len(word))) == left
