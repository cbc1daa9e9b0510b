"""What is kept of captions over a run: no more than allowed, whatever its size."""

from mmel_cli.model.many_texts import ByCaption


def test_what_has_no_size_is_let_go_too():
    made, kept = [], ByCaption[str, list](3, len)

    def make(captions):
        made.extend(captions)
        return [[] for _ in captions]

    for caption in "abcda":
        assert kept.get([caption], make) == [[]]
    assert made == ["a", "b", "c", "d", "a"]  # "a" went with "d"
    kept.get(["c", "d", "a"], make)
    assert len(made) == 5


def test_each_caption_is_made_once_however_often_it_is_asked_for():
    calls, kept = [], ByCaption[str, int](10, int)
    assert kept.get(["a", "bb", "a"], lambda captions: calls.append(captions) or [len(c) for c in captions]) == [
        1,
        2,
        1,
    ]
    assert calls == [["a", "bb"]]
