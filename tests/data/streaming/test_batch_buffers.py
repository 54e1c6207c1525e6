"""Batches' memory is used again, and never while anything still looks at it."""

import gc

import numpy as np
import torch

from expflow.data.streaming.batch_buffers import BufferPool, batch_bytes, new_batch

SHAPES = {"image": ((3, 4, 5), np.dtype("uint8")), "label": ((), np.dtype("int64")), "box": ((2, 5), "float32")}


def test_tensors_have_their_shapes_and_images_lie_with_channels_last():
    tensors = new_batch(SHAPES, 7, BufferPool(1), pin=False)
    assert {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()} == {
        "image": ((7, 3, 4, 5), torch.uint8),
        "label": ((7,), torch.int64),
        "box": ((7, 2, 5), torch.float32),
    }
    assert tensors["image"].is_contiguous(memory_format=torch.channels_last)
    for value, tensor in enumerate(tensors.values(), start=1):
        tensor.fill_(value)
    assert [set(tensor.flatten().tolist()) for tensor in tensors.values()] == [{1}, {2}, {3}]


def test_memory_comes_back_when_the_last_view_of_it_is_gone():
    buffers = BufferPool(2)
    batch = new_batch(SHAPES, 4, buffers, pin=False)
    address = batch["image"].data_ptr()
    view = batch["label"][1:].numpy()
    del batch
    gc.collect()
    other = new_batch(SHAPES, 4, buffers, pin=False)
    assert other["image"].data_ptr() != address
    del view
    assert new_batch(SHAPES, 4, buffers, pin=False)["image"].data_ptr() == address


def test_smaller_batches_fit_into_larger_blocks_and_few_blocks_are_kept():
    buffers = BufferPool(2)
    address = new_batch(SHAPES, 4, buffers, pin=False)["image"].data_ptr()
    assert new_batch(SHAPES, 3, buffers, pin=False)["image"].data_ptr() == address
    batches = [new_batch(SHAPES, 4, buffers, pin=False) for _ in range(5)]
    addresses = {batch["image"].data_ptr() for batch in batches}
    batches.clear()
    again = [buffers.take(batch_bytes(SHAPES, 4)).ctypes.data for _ in range(3)]
    assert len(addresses & set(again)) <= 2
