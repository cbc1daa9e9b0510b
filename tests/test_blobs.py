"""Regions, peaks and points of a map, at places that can be told by hand."""

import numpy as np
import pytest

from mmel_cli.blobs import FINER, blobs, opposite, peaks

WHOLE = (0.0, 0.0, 80.0, 60.0)  # 8 x 6 cells of 10 x 10 pixels
SIZE = (60, 80)


def cells(*strong, value=1.0, background=0.0):
    values = np.full((6, 8), background, np.float32)
    for row, column in strong:
        values[row, column] = value
    return values


def test_the_box_is_around_what_is_above_the_threshold_of_the_interpolated_map():
    # from the middle of a 1 to that of a 0 the values are 7/8, 5/8, 3/8, 1/8; the strongest points, between both, 7/8
    (blob,) = blobs(cells((2, 3), (2, 4)), WHOLE, SIZE, 0.4)
    assert blob.box == (30.0, 17.5, 50.0, 32.5)
    assert blob.peak == 1.0
    assert np.argwhere(blob.cells).tolist() == [[1, 3], [1, 4], [2, 3], [2, 4], [3, 3], [3, 4]]
    assert blobs(cells((2, 3), (2, 4)), WHOLE, SIZE, 0.5)[0].box == (30.0, 20.0, 50.0, 30.0)
    (wider,) = blobs(cells((2, 3), (2, 4)), WHOLE, SIZE, 0.0)
    assert wider.share == pytest.approx(1.0)
    assert wider.box == (25.0, 15.0, 55.0, 35.0)


def test_regions_are_in_the_order_of_their_evidence_and_shares_are_of_all_positive_evidence():
    values = cells((0, 0), (4, 5), (4, 6), (5, 5), (5, 6)) - cells((2, 2), value=100.0)
    first, second = blobs(values, WHOLE, SIZE, 0.4)
    assert first.box[0] > 40
    assert second.box == (0.0, 0.0, 10.0, 10.0)  # at the corner the outer cell counts alone
    assert first.share > second.share > 0
    assert first.share + second.share < 1


@pytest.mark.parametrize(
    ("box", "size", "expected"),
    [
        ((0.0, 0.0, 80.0, 60.0), (60, 80), (27.5, 17.5, 42.5, 32.5)),  # the grid is the image
        ((20.0, 0.0, 100.0, 60.0), (60, 120), (47.5, 17.5, 62.5, 32.5)),  # native: the middle of a wide image
        ((0.0, 0.0, 240.0, 60.0), (60, 240), (82.5, 17.5, 127.5, 32.5)),  # squash: cells are wide
        ((0.0, -10.0, 80.0, 50.0), (40, 80), (27.5, 7.5, 42.5, 22.5)),  # letterbox: the grid reaches beyond
    ],
)
def test_boxes_and_points_are_in_pixels_of_the_original_whatever_the_geometry(box, size, expected):
    (blob,) = blobs(cells((2, 3)), box, size, 0.4)
    assert blob.box == pytest.approx(expected)
    (peak,) = peaks(cells((2, 3)), box, size, 3)
    assert (peak.x, peak.y) == pytest.approx(((expected[0] + expected[2]) / 2, (expected[1] + expected[3]) / 2))
    assert peak.value == 1.0


def test_what_lies_outside_the_image_is_no_region_and_no_point():
    box, size = (0.0, -20.0, 80.0, 40.0), (20, 80)  # two rows of padding above, two below
    values = cells((0, 0), value=5.0) + cells((1, 6))
    assert blobs(values, box, size) == []
    assert peaks(values, box, size, 3) == []
    (blob,) = blobs(values + cells((3, 3)), box, size, 0.4)
    assert blob.box == (27.5, 7.5, 42.5, 20.0)  # cut at the border of the image
    assert blob.share < 0.2


@pytest.mark.parametrize("values", [np.zeros((6, 8)), -np.ones((6, 8)), np.full((6, 8), np.nan)])
def test_a_map_without_evidence_has_no_region_and_no_peak(values):
    assert blobs(values, WHOLE, SIZE) == []
    assert peaks(values, WHOLE, SIZE, 3) == []


def test_peaks_are_cells_that_no_neighbour_exceeds_the_strongest_first():
    values = cells((1, 1), value=0.5) + cells((1, 2), value=0.4) + cells((4, 6)) + cells((5, 0), value=0.1)
    assert [(p.x, p.y) for p in peaks(values, WHOLE, SIZE, 9)] == [(65.0, 45.0), (15.0, 15.0)]
    assert [(p.x, p.y) for p in peaks(values, WHOLE, SIZE, 1)] == [(65.0, 45.0)]
    assert len(peaks(values, WHOLE, SIZE, 9, 0.05)) == 3


def test_the_opposite_is_the_strongest_evidence_against_else_the_farthest_cell():
    away = np.zeros((6, 8), bool)
    away[0, 0] = True
    against = cells((3, 3), value=-0.5) + cells((0, 0), value=-9.0)
    point = opposite(against, WHOLE, SIZE, away)
    assert (point.x, point.y, point.value) == (35.0, 35.0, -0.5)
    point = opposite(cells((0, 0)), WHOLE, SIZE, away)
    assert (point.x, point.y) == (75.0, 55.0)
    assert opposite(cells((0, 0)), WHOLE, SIZE, np.ones((6, 8), bool)) is None


def test_interpolation_has_points_inside_each_cell():
    assert FINER % 2 == 0
    values = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    assert all(blob.cells.shape == (5, 3) for blob in blobs(values, (3.0, -2.0, 9.5, 11.0), (9, 9)))
