"""The worked examples of the courses: convolutions, pooling, transposed convolutions and sizes, by their numbers.

Torch computes them, so that what courses print and what our networks do are known to be the same thing. Where a slide
is wrong, the right value stands here and a comment says so.
"""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from expflow.architectures.accounting import count_parameters, multiply_adds


def grid(text):
    """``12/34`` -> a map (1, 1, 2, 2) of its digits."""
    return torch.tensor([[[[float(digit) for digit in row] for row in text.split("/")]]])


def slid(image, kernel, **how):
    return functional.conv2d(grid(image), grid(kernel), **how)[0, 0].tolist()


FOUR, THREE = "4587/1888/3664/6578", "141/143/331"


def test_convolution_is_cross_correlation_with_the_kernel_as_it_is():
    image, kernel = "10012/00030/01211/11300/30001", "001/020/110"
    assert slid(image, kernel) == [[1, 4, 11], [4, 11, 5], [7, 7, 1]]
    assert slid(image, "011/020/100") != slid(image, kernel)  # turned over, as convolution is in mathematics


def test_the_example_that_leaves_its_result_open():
    assert slid("33210/00131/31223/20022/20001", "012/220/012") == [[12, 12, 17], [10, 17, 19], [9, 6, 14]]


def test_a_kernel_of_differences_over_the_rows_that_are_printed():
    kernel = torch.tensor([[[[0.0, 0, -1], [1, -1, 0], [0, 1, -1]]]])
    assert functional.conv2d(grid("11012/20010/00221"), kernel)[0, 0].tolist() == [[0, -1, -2]]
    assert functional.conv2d(grid("200/002/000"), kernel).item() == 0  # of the fourth row three pixels are printed


def test_a_box_filter_on_the_square_with_a_hole():
    image = torch.zeros(10, 10)
    image[2:7, 3:8] = 90
    image[5, 4] = 0
    image[8, 2] = 90
    box = torch.full((1, 1, 3, 3), 1 / 9)
    assert functional.conv2d(image[None, None], box)[0, 0].round().int().tolist() == [
        [0, 10, 20, 30, 30, 30, 20, 10],
        [0, 20, 40, 60, 60, 60, 40, 20],
        [0, 30, 60, 90, 90, 90, 60, 30],
        [0, 30, 50, 80, 80, 90, 60, 30],
        [0, 30, 50, 80, 80, 90, 60, 30],
        [0, 20, 30, 50, 50, 60, 40, 20],
        [10, 20, 30, 30, 30, 30, 20, 10],
        [10, 10, 10, 0, 0, 0, 0, 0],
    ]


def as_matrix():
    """The 3x3 convolution of 4x4 pixels as a matrix of 4 rows and 16 columns."""
    pixels = torch.eye(16).view(16, 1, 4, 4)
    return functional.conv2d(pixels, grid(THREE)).view(16, 4).T


def test_a_convolution_is_a_matrix():
    assert slid(FOUR, THREE) == [[122, 148], [126, 134]]
    matrix = as_matrix()
    assert matrix[0].tolist() == [1, 4, 1, 0, 1, 4, 3, 0, 3, 3, 1, 0, 0, 0, 0, 0]
    assert matrix[1].tolist() == [0, 1, 4, 1, 0, 1, 4, 3, 0, 3, 3, 1, 0, 0, 0, 0]
    assert (matrix @ grid(FOUR).flatten()).tolist() == [122, 148, 126, 134]


def test_the_transposed_convolution_is_the_transposed_matrix():
    small = grid("21/44")
    large = [[2, 9, 6, 1], [6, 29, 30, 7], [10, 29, 33, 13], [12, 24, 16, 4]]
    assert functional.conv_transpose2d(small, grid(THREE))[0, 0].tolist() == large
    assert (as_matrix().T @ small.flatten()).view(4, 4).tolist() == large


@pytest.mark.parametrize(
    ("size", "stride", "padding", "more", "out"),
    [(2, 1, 0, 0, 3), (2, 2, 0, 0, 4), (3, 2, 1, 0, 4), (2, 2, 1, 0, 2), (3, 2, 1, 1, 5)],
)
def test_sizes_after_a_transposed_2x2_convolution(size, stride, padding, more, out):
    layer = nn.ConvTranspose2d(1, 1, 2, stride, padding, output_padding=more)
    assert layer(torch.zeros(1, 1, size, size)).shape[-1] == out == (size - 1) * stride - 2 * padding + 2 + more


def test_max_pooling():
    assert functional.max_pool2d(grid("1124/5678/3210/1234"), 2)[0, 0].tolist() == [[6, 8], [3, 4]]


@pytest.mark.parametrize("layer", [nn.MaxPool2d, nn.AvgPool2d])
@pytest.mark.parametrize(
    ("size", "kernel", "stride", "out"), [(4, 2, 2, 2), (55, 3, 2, 27), (27, 3, 2, 13), (7, 7, 1, 1)]
)
def test_pools_leave_so_much_and_learn_nothing(layer, size, kernel, stride, out):
    pool = layer(kernel, stride)
    assert pool(torch.zeros(1, 5, size, size)).shape == (1, 5, out, out)
    assert out == (size - kernel) // stride + 1
    assert count_parameters(pool) == 0


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "out"),
    [
        (10, 3, 1, 0, 8),
        (9, 5, 2, 0, 3),
        (7, 3, 1, 0, 5),
        (7, 3, 2, 0, 3),
        (7, 3, 1, 1, 7),
        (32, 5, 3, 0, 10),
        (32, 5, 1, 0, 28),
        (28, 5, 1, 2, 28),  # the slide puts 2 x 1 for twice the padding of 2, and prints 32
        (6, 3, 1, 0, 4),
        (227, 11, 4, 0, 55),
    ],
)
def test_sizes_after_a_convolution(size, kernel, stride, padding, out):
    layer = nn.Conv2d(1, 1, kernel, stride, padding)
    assert layer(torch.zeros(1, 1, size, size)).shape[-1] == out == (size - kernel + 2 * padding) // stride + 1


@pytest.mark.parametrize("kernel", [1, 3, 5, 7, 11])
def test_half_the_kernel_as_padding_keeps_the_size(kernel):
    assert nn.Conv2d(1, 1, kernel, padding=(kernel - 1) // 2)(torch.zeros(1, 1, 16, 9)).shape == (1, 1, 16, 9)


@pytest.mark.parametrize(
    ("filters", "stride", "images", "out"),
    [(5, 3, 1, (1, 5, 10, 10)), (6, 1, 1, (1, 6, 28, 28)), (6, 1, 4, (4, 6, 28, 28))],
)
def test_each_5x5_filter_makes_a_map_of_a_colour_image_of_32x32(filters, stride, images, out):
    assert nn.Conv2d(3, filters, 5, stride)(torch.zeros(images, 3, 32, 32)).shape == out


@pytest.mark.parametrize("groups", [1, 2, 4, 64])
def test_groups_divide_the_multiply_adds(groups):
    layer, x_bchw = nn.Conv2d(64, 64, 3, padding=1, groups=groups), torch.zeros(1, 64, 7, 5)
    assert multiply_adds(layer, x_bchw) == 64 * 64 * 9 * 35 // groups  # the slide forgets to divide


def test_a_stride_that_does_not_fit_leaves_pixels_out():
    # (7 - 3) / 3 + 1 = 2.33: the courses call it invalid, torch rounds down
    assert nn.Conv2d(1, 1, 3, 3)(torch.zeros(1, 1, 7, 7)).shape[-1] == 2


@pytest.mark.parametrize(("channels", "params"), [(1, 156), (3, 456)])
def test_six_5x5_filters_have_so_many_parameters(channels, params):
    assert count_parameters(nn.Conv2d(channels, 6, 5, padding=2)) == params


def test_six_5x5_filters_on_a_colour_image_cost_so_many_multiply_adds():
    layer = nn.Conv2d(3, 6, 5, padding=2)
    assert layer(torch.zeros(1, 3, 28, 28)).numel() == 4_704  # the slide: 6,144, after its 32 above
    assert multiply_adds(layer, torch.zeros(1, 3, 28, 28)) == 352_800  # the slide: 460,800


def test_ten_3x3_filters_on_a_colour_image_of_6x6():
    layer = nn.Conv2d(3, 10, 3)
    assert tuple(layer(torch.zeros(1, 3, 6, 6)).shape[1:]) == (10, 4, 4)
    assert count_parameters(layer) == 280


def test_filters_are_few_where_full_connections_are_many():
    assert count_parameters(nn.Conv2d(1, 100, 7, bias=False)) == 4_900
    with torch.device("meta"):
        full = nn.Linear(10**6, 10**6, bias=False)
    assert count_parameters(full) == 10**12  # the slide prints 1B


def test_an_image_is_so_many_numbers():
    assert torch.zeros(1, device="meta").expand(3, 1080, 1080).numel() == 3_499_200


def test_the_chain_rule_of_the_lecture():
    x, y, z = (torch.tensor(value, requires_grad=True) for value in (-2.0, 5.0, -4.0))
    f = (x + y) * z
    f.backward()
    assert (f.item(), x.grad.item(), y.grad.item(), z.grad.item()) == (-12, -4, -4, 3)


def test_the_gradients_behind_a_softmax():
    weight, hidden = torch.randn(3, 4, requires_grad=True), torch.randn(4, requires_grad=True)
    functional.cross_entropy((weight @ hidden)[None], torch.tensor([2])).backward()
    error = (weight @ hidden).softmax(0).detach() - torch.tensor([0.0, 0.0, 1.0])
    assert torch.allclose(weight.grad, torch.outer(error, hidden.detach()), atol=1e-6)
    assert torch.allclose(hidden.grad, weight.detach().T @ error, atol=1e-6)


@pytest.mark.parametrize(("batch", "steps"), [(1300, 1), (1, 1300), (64, 21)])
def test_steps_of_one_epoch(batch, steps):
    loader = torch.utils.data.DataLoader(range(1300), batch_size=batch)
    assert len(loader) == steps == math.ceil(1300 / batch)
