"""Occlusion and region search against loops over what they cover, through a literal float64 forward."""

from itertools import combinations

import pytest
import torch
from again import PAIRS, Again, close

from mmel_cli.attribution import METHODS, occlusion, region_search
from mmel_cli.errors import UsageError


@pytest.fixture(scope="module")
def again(tiny):
    return Again(tiny)


def covered(values, cells, size=8):
    """The pixels with these patches at the mean colour."""
    found = values.clone()
    for row, column in cells:
        found[:, row * size : (row + 1) * size, column * size : (column + 1) * size] = 0
    return found


def test_occlusion_by_one_patch_is_the_change_of_each_deletion(again):
    found = again.explain("occlusion", window=1).map
    for pair in range(len(PAIRS)):
        values = again.image(pair)
        whole = again.score(pair, values)
        falls = [whole - again.score(pair, covered(values, [(row, column)])) for row in range(4) for column in range(4)]
        close(found[pair], torch.stack(falls).view(4, 4))
    assert found.min() < 0 < found.max()


@pytest.mark.parametrize(("window", "stride"), [(2, 1), (3, 1), (2, 2), (3, 2), (4, 3)])
def test_occlusion_averages_the_squares_that_cover_a_patch(again, window, stride):
    found = again.explain("occlusion", PAIRS[:1], window=window, stride=stride).map
    values, total, count = again.image(0), torch.zeros(4, 4).double(), torch.zeros(4, 4)
    whole = again.score(0, values)
    corners = list(range(0, 4 - window + 1, stride))
    corners += [4 - window] * (corners[-1] != 4 - window)
    for top in corners:
        for left in corners:
            cells = [(top + y, left + x) for y in range(window) for x in range(window)]
            fall = whole - again.score(0, covered(values, cells))
            for row, column in cells:
                total[row, column] += fall.detach()
                count[row, column] += 1
    close(found[0], total / count)


def test_squares_reach_the_border_of_a_grid_that_is_not_square():
    covers = occlusion.squares((3, 6), 2, 2)
    assert covers.shape == (2 * 3, 3, 6)
    assert covers.sum(0).min() >= 1
    corners = [tuple(cover.nonzero()[0].tolist()) for cover in covers]
    assert corners == [(row, column) for row in (0, 1) for column in (0, 2, 4)]
    assert len(occlusion.squares((14, 14), 2, 1)) == 13 * 13
    with pytest.raises(UsageError, match=r"method\.window: 4 patches do not fit the grid of 3 x 6"):
        occlusion.squares((3, 6), 4, 1)


def test_a_square_larger_than_the_grid_is_one_line_of_the_command(photos, tiny, tmp_path, mmel):
    given = ("--method", "occlusion", "--set", "method.window=5")
    code, _, err = mmel("explain", photos, "--out", tmp_path / "run", "--model", tiny, *given)
    assert code == 2
    assert "method.window: 5 patches do not fit the grid of 4 x 4" in err.replace("\n", " ")


def test_a_token_is_worth_what_its_absence_changes(again):
    found = again.explain("occlusion").fields["tokens/map"]
    probe = again.probe()
    for pair, (_, row) in enumerate(PAIRS):
        count = len(again.words.tokens[row])
        assert count > 1
        whole = probe.covered_tokens(pair, torch.ones(1, count).bool())[0]
        for token in range(count):
            kept = torch.tensor([[other != token for other in range(count)]])
            fall = whole - probe.covered_tokens(pair, kept)[0]
            assert found[pair, token].item() == pytest.approx(fall.item(), abs=1e-6)
        assert (found[pair, :count].abs() > 1e-4).all()
        assert not found[pair, count:].any()


REGIONS = [[(2 * row + y, 2 * column + x) for y in (0, 1) for x in (0, 1)] for row in (0, 1) for column in (0, 1)]


def objective(again, pair, chosen, regions=REGIONS):
    """Literally: the score of the regions alone less that of all others."""
    values = again.image(pair)
    others = [number for number in range(len(regions)) if number not in chosen]
    alone, rest = (covered(values, [cell for number in away for cell in regions[number]]) for away in (others, chosen))
    return (again.score(pair, alone) - again.score(pair, rest)).item()


@pytest.mark.parametrize("values", ["falling", "gains"])
def test_region_search_equals_a_literal_greedy_search(again, values):
    found = again.explain("region-search", regions=2, values=values).map
    for pair in range(len(PAIRS)):
        chosen, gains = [], []
        while len(chosen) < 4:
            left = [number for number in range(4) if number not in chosen]
            best = max(left, key=lambda number: objective(again, pair, [*chosen, number]))
            gains.append(objective(again, pair, [*chosen, best]) - objective(again, pair, chosen))
            chosen.append(best)
        expected = torch.zeros(4, 4).double()
        for place, number in enumerate(chosen):
            value = sum(abs(gain) for gain in gains[place + 1 :]) if values == "falling" else gains[place]
            for cell in REGIONS[number]:
                expected[cell] = value
        close(found[pair], expected)


def test_its_first_choice_is_that_of_an_exhaustive_search(again):
    """And gains sum to what is between nothing and all, whatever the order: twice the change of the score."""
    found = again.explain("region-search", values="gains", regions=4).map
    order = again.explain("region-search", regions=4).map
    single = [[(row, column)] for row in range(4) for column in range(4)]
    for pair in range(len(PAIRS)):
        firsts = [objective(again, pair, [number], single) for number in range(16)]
        assert int(order[pair].flatten().argmax()) == max(range(16), key=firsts.__getitem__)
        change = again.score(pair, again.image(pair)) - again.score(pair, torch.zeros(3, 32, 32))
        assert found[pair].sum().item() == pytest.approx(2 * change.item(), abs=1e-5)
        assert order[pair].min() == 0


def test_forwards_are_as_many_as_it_says(again, monkeypatch):
    seen = []
    real = again.model.embed_images
    monkeypatch.setattr(again.model, "embed_images", lambda values, **how: (seen.append(len(values)), real(values))[1])
    again.explain("region-search", PAIRS[:2], regions=3)
    assert sum(seen) == 2 * (9 * 10 + 2)
    seen.clear()
    again.explain("occlusion", PAIRS[:1])
    assert sum(seen) == 2 * (9 + 1) + 1  # both images are covered, the caption's is read once more


def test_greedy_finds_the_best_cover_and_never_less_than_its_guarantee():
    """A weighted cover is submodular: greedy keeps 1 - 1/e of the optimum; here gains and order are known."""
    sets = [{0, 1, 2, 3}, {3, 4}, {4, 5, 6}, {0, 1}]
    weight = [5.0, 1.0, 1.0, 2.0, 3.0, 1.0, 1.0]

    def cover(chosen):
        return sum(weight[item] for item in set().union(*(sets[number] for number in chosen)))

    def values(subsets):
        return torch.tensor([[cover(row.nonzero()[:, 0].tolist()) for row in rows] for rows in subsets])

    order, gains = region_search.greedy(values, 2, 4, torch.device("cpu"))
    assert order.tolist() == [[0, 2, 1, 3]] * 2
    assert gains.tolist() == [[9.0, 5.0, 0.0, 0.0]] * 2
    for size in range(1, 5):
        best = max(cover(chosen) for chosen in combinations(range(4), size))
        assert gains[0, :size].sum() >= (1 - 1 / 2.718281828) * best


def test_greedy_on_a_sum_is_the_sorted_order_of_each_pair_and_equals_go_in_order():
    worth = torch.tensor([[0.3, -0.2, 0.9, 0.3 + 4e-7], [0.0, 4.0, 1.0, -1.0]])
    order, gains = region_search.greedy(lambda subsets: (subsets * worth[:, None]).sum(-1), 2, 4, torch.device("cpu"))
    assert order.tolist() == [[2, 0, 3, 1], [1, 2, 0, 3]]
    torch.testing.assert_close(gains, worth.gather(1, order), rtol=0, atol=2e-7)


@pytest.mark.parametrize(("grid", "regions"), [((4, 4), 2), ((7, 7), 6), ((5, 8), 3), ((3, 9), 6)])
def test_regions_cut_the_grid_near_evenly(grid, regions):
    region_of = region_search.regions_of(grid, regions)
    counts = torch.bincount(region_of.flatten())
    assert len(counts) == min(regions, grid[0]) * min(regions, grid[1])
    assert counts.min() > 0
    for number in range(len(counts)):
        cells = (region_of == number).nonzero()
        height, width = (cells.amax(0) - cells.amin(0) + 1).tolist()
        assert height * width == len(cells)
        assert (height - grid[0] // min(regions, grid[0])) in (0, 1)
        assert (width - grid[1] // min(regions, grid[1])) in (0, 1)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("occlusion", {"window": 0}),
        ("occlusion", {"stride": 0}),
        ("occlusion", {"stride": 3}),
        ("region-search", {"regions": 1}),
    ],
)
def test_parameters_are_checked_where_they_are_declared(name, given):
    with pytest.raises(ValueError, match=next(iter(given))):
        METHODS[name].params(**given)


def test_what_they_explain():
    assert METHODS["occlusion"].modality == "image and caption"
    assert METHODS["region-search"].modality == "image"
