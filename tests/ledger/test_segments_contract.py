"""What every place for a ledger's segments keeps to: one list of statements over all implementations."""

import os
import sys

import pytest

from expflow.ledger.segments import LocalSegments, Segments
from tests.ledger.memory_segments import MemorySegments

IMPLEMENTATIONS = {"local": lambda folder: LocalSegments(folder), "memory": lambda folder: MemorySegments()}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the segments in memory need Linux's memfd")


@pytest.fixture(params=IMPLEMENTATIONS)
def segments(request, tmp_path) -> Segments:
    """An empty place for segments; its folder exists, as the lock that is taken first makes it."""
    return IMPLEMENTATIONS[request.param](tmp_path)


def append(descriptor: int, data: bytes) -> None:
    assert os.write(descriptor, data) == len(data)


def content(segments: Segments, number: int) -> bytes:
    with segments.open(number) as file:
        return file.read()


def test_there_are_none_at_first(segments: Segments) -> None:
    assert segments.numbers() == []


def test_numbers_ascend_from_one(segments: Segments) -> None:
    for number in range(1, 12):
        os.close(segments.create(number))
    assert segments.numbers() == list(range(1, 12))


def test_a_new_segment_is_empty_and_there(segments: Segments) -> None:
    descriptor = segments.create(1)
    assert (segments.numbers(), content(segments, 1)) == ([1], b"")
    os.close(descriptor)


def test_a_number_is_created_once(segments: Segments) -> None:
    descriptor = segments.create(1)
    append(descriptor, b"kept\n")
    with pytest.raises(FileExistsError):
        segments.create(1)
    assert content(segments, 1) == b"kept\n"
    os.close(descriptor)


def test_what_is_written_is_read_while_the_segment_is_open_for_writing(segments: Segments) -> None:
    descriptor = segments.create(1)
    append(descriptor, b"one\n")
    with segments.open(1) as file:
        assert file.read() == b"one\n"
        append(descriptor, b"two\n")
        assert file.read() == b"two\n", "a reader that reached the end sees what comes after"
    os.close(descriptor)


def test_writing_appends_also_after_the_end_was_cut_off(segments: Segments) -> None:
    descriptor = segments.create(1)
    append(descriptor, b"whole\nhalf")
    os.ftruncate(descriptor, 6)  # what the ledger does with half a line on a full disk
    append(descriptor, b"next\n")
    assert content(segments, 1) == b"whole\nnext\n"
    os.close(descriptor)


def test_a_reader_begins_where_it_wants(segments: Segments) -> None:
    descriptor = segments.create(1)
    append(descriptor, b"one\ntwo\n")
    with segments.open(1) as file:
        file.seek(4)
        assert list(file) == [b"two\n"]
    os.close(descriptor)


def test_two_readers_have_a_place_each(segments: Segments) -> None:
    descriptor = segments.create(1)
    append(descriptor, b"one\ntwo\n")
    with segments.open(1) as first, segments.open(1) as second:
        assert (first.readline(), second.readline(), first.readline()) == (b"one\n", b"one\n", b"two\n")
    os.close(descriptor)


def test_segments_do_not_share_content(segments: Segments) -> None:
    for number in (1, 2):
        descriptor = segments.create(number)
        append(descriptor, b"%d\n" % number)
        os.close(descriptor)
    assert (content(segments, 1), content(segments, 2)) == (b"1\n", b"2\n")


def test_a_sealed_segment_is_read_as_before_and_sealed_twice_without_harm(segments: Segments) -> None:
    descriptor = segments.create(1)
    append(descriptor, b"one\n")
    os.close(descriptor)
    for _ in range(2):
        segments.seal(1)
    assert (segments.numbers(), content(segments, 1)) == ([1], b"one\n")


def test_names_for_messages_tell_segments_apart(segments: Segments) -> None:
    assert len({str(segments.path(number)) for number in range(1, 20)}) == 19


def test_a_summary_comes_back_as_it_was_kept_last_and_is_no_segment(segments: Segments) -> None:
    os.close(segments.create(1))
    assert segments.summary(1) is None
    assert not segments.has_summary(1)
    segments.keep_summary(1, b"one")
    segments.keep_summary(1, b"two\n")
    assert (segments.summary(1), segments.summary(2), segments.numbers()) == (b"two\n", None, [1])
    assert (segments.has_summary(1), segments.has_summary(2)) == (True, False)
