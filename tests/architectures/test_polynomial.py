"""Polynomials: the functions that they span."""

import numpy as np
import torch

from expflow.architectures import build
from expflow.data.dataspec import DataSpec, FieldSpec
from expflow.registry import MODELS

DATA = DataSpec({"image": FieldSpec((1, 1, 1), "uint8")}, ("t",), mean=(0.4,), std=(0.3,))


def test_degree_m_can_be_any_polynomial_of_that_degree_of_the_grey():
    network = build(MODELS.spec("polynomial")(name="polynomial", degree=4), DATA).double()
    grey = torch.linspace(0, 1, 50, dtype=torch.float64)
    images = ((grey - 0.4) / 0.3).view(-1, 1, 1, 1)
    with torch.no_grad():
        columns = []
        for number in range(4):
            network.head.weight.zero_()
            network.head.weight[0, number] = 1
            columns.append(network(images))
        features = torch.cat([torch.ones(50, 1, dtype=torch.float64), *columns], 1).numpy()
    legendre = np.polynomial.legendre.legvander(2 * grey.numpy() - 1, 4)
    assert np.allclose(features, legendre, atol=1e-6)
