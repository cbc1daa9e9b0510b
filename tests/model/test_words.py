"""Keys, readable tokens and words of captions: nothing but the adapter knows where they stand."""

import pytest
import torch

from mmel_cli.errors import ModelError
from mmel_cli.model import BUILTIN, load_model
from mmel_cli.model.words import trimmed, words_of


@pytest.fixture(scope="module")
def builtin():
    return load_model(BUILTIN, "cpu", "float32")


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("a red dog, ain't it", ["a", "red", "dog,", "ain't", "it"]),
        ("  Two   DOGS\ton\u3000grass ", ["Two", "DOGS", "on", "grass"]),
        ("café ☃ cafe\u0301 noir", ["café", "☃", "cafe\u0301", "noir"]),
        ("😀😀dog 🐕", ["😀😀dog", "🐕"]),
        ("e\u0301e\u0301x y", ["e\u0301e\u0301x", "y"]),
        ("a <|endoftext|> b", ["a", "<|endoftext|>", "b"]),
        ("", []),
        (" \u200b ", None),
    ],
)
def test_words_are_the_caption_between_whitespace(builtin, caption, words):
    captions = builtin.tokenize([caption, "one more caption, which is longer than the others are"])
    spans = [(word.start, word.end) for word in captions.words[0]]
    assert [caption[start:end] for start, end in spans] == [word.text for word in captions.words[0]]
    if words is not None:
        assert [word.text for word in captions.words[0]] == words
    keys = int((captions.places[0] >= 0).sum())
    assert len(captions.tokens[0]) == keys
    assert all(token and not token.endswith("</w>") and "Ã" not in token for token in captions.tokens[0])
    assert not bool(captions.truncated[0])


def test_tokens_are_the_text_that_they_stand_for(builtin):
    captions = builtin.tokenize(["A striped DOG, é"])
    joined = "".join(captions.tokens[0])
    assert joined.replace("éé", "é") == "AstripedDOG,é"


def test_a_word_that_the_context_cuts_is_whole(builtin):
    """Its value is that of the whole word, so it is shown whole."""
    long = "zq" * 100
    captions = builtin.tokenize([long])
    (word,) = captions.words[0]
    assert bool(captions.truncated[0])
    assert len(captions.tokens[0]) == builtin.spec.max_tokens
    assert "".join(captions.tokens[0]) == long[: builtin.spec.max_tokens]
    assert (word.text, word.start, word.end) == (long, 0, len(long))
    words = builtin.tokenize(["a " + "b " * 28 + long + " c"]).words[0]
    assert [word.text for word in words][-2:] == ["b", long]


@pytest.mark.parametrize(
    ("caption", "spans", "count", "words"),
    [
        ("a dog", [(0, 1), (1, 5)], 2, [("a", 0, 1), ("dog", 2, 5)]),  # a tokenizer that counts blanks to a token
        ("a dog", [(0, 2), (1, 5)], 2, [("a", 0, 1), ("dog", 2, 5)]),
        ("a dog", [(0, 1), (1, 1), (2, 4), (4, 5)], 4, [("a", 0, 1), ("dog", 2, 5)]),
        ("dogs a", [(0, 2), (2, 4), (5, 6)], 1, [("dogs", 0, 4)]),  # read in part, so whole
        ("do\u0301gs", [(0, 2), (3, 5)], 1, [("do\u0301gs", 0, 5)]),
        ("x", [(0, 0)], 1, []),
    ],
)
def test_runs_of_spans(caption, spans, count, words):
    assert [(word.text, word.start, word.end) for word in words_of(caption, spans, count)] == words


def test_a_span_of_whitespace_alone_is_empty():
    start, end = trimmed("a  b", (1, 3))
    assert start >= end


def test_a_special_token_that_a_caption_spells_is_text_and_cuts_nothing(builtin):
    captions = builtin.tokenize(["a red circle <|endoftext|> and a blue square", "a red circle"])
    plain = builtin.tokenize(["a red circle", "a red circle"])
    assert not captions.truncated.any()
    assert captions.words[0][-1].text == "square"
    assert (captions.ids[0] == builtin.tokenize([""]).ids[0, 1]).sum() == 1  # EOS ends it and nothing else
    embeds, other = builtin.embed_texts(captions), builtin.embed_texts(plain)
    assert (embeds[1] - other[1]).abs().max() < 1e-6
    assert (embeds[0] - other[0]).abs().max() > 0.01


def test_a_caption_that_its_unknown_token_cuts_says_truncated(tiny):
    """The tiny model has no bytes beyond ASCII: the unknown token is EOS, as in CLIP, and ends the caption."""
    captions = load_model(str(tiny), "cpu", "float32").tokenize(["a red é dog", "a red dog"])
    assert captions.truncated.tolist() == [True, False]
    assert captions.tokens[0] == ("a", "red")


def test_covered_captions_leave_start_end_and_the_rest_alone(builtin):
    captions = builtin.tokenize(["a red circle", "a blue square and a green circle"])
    keys = len(captions.tokens[0])
    kept = torch.tensor([[True] * keys, [False] * keys, [k == 1 for k in range(keys)]])
    covered = captions.covered(0, kept)
    assert covered.mask.tolist() == [
        captions.mask[0].tolist(),
        [int(m and p not in captions.places[0]) for p, m in enumerate(captions.mask[0].tolist())],
        [
            int(m and (p not in captions.places[0] or p == captions.places[0][1]))
            for p, m in enumerate(captions.mask[0].tolist())
        ],
    ]
    padded = torch.cat([kept, torch.ones(3, captions.places.shape[1] - keys, dtype=torch.bool)], 1)
    assert torch.equal(captions.covered(0, padded).mask, covered.mask)
    for wrong in (kept[:, 1:], padded[:, : keys + 1]):
        with pytest.raises(ModelError, match="the tokenizer that it was explained with"):
            captions.covered(0, wrong)
    embeds = builtin.embed_texts(covered)
    assert (embeds[0] - builtin.embed_texts(captions)[0]).abs().max() < 1e-6
    assert (embeds[1] - embeds[0]).abs().max() > 1e-3
