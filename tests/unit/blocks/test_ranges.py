import pytest

from moorage.core.errors import RangeError
from moorage_nodes.blocks.ranges import parse_range, plan_read, should_send_not_modified


@pytest.mark.parametrize(
    ("header", "size", "expected"),
    [
        (None, 10, None),
        ("bytes=0-0", 10, (0, 0)),
        ("bytes=2-5", 10, (2, 5)),
        ("bytes=2-", 10, (2, 9)),
        ("bytes=2-99", 10, (2, 9)),
        ("bytes=-3", 10, (7, 9)),
        ("bytes=-99", 10, (0, 9)),
        ("Bytes=2-5", 10, (2, 5)),
        ("bytes= 2-5 ", 10, (2, 5)),
        ("bytes=9-9", 10, (9, 9)),
        # not a range of bytes: ignored
        ("bytes=-", 10, None),
        ("bytes=5-2", 10, None),
        ("bytes=a-b", 10, None),
        ("bytes=2-5,7-8", 10, None),
        ("items=2-5", 10, None),
        ("2-5", 10, None),
        ("bytes=1-2-3", 10, None),
        ("bytes=--5", 10, None),
        ("bytes=\u0661-\u0662", 10, None),
        ("bytes=" + "9" * 5000 + "-", 10, None),
        # of nothing
        ("bytes=0-", 0, None),
        ("bytes=-1", 0, None),
    ],
)
def test_a_range_header_is_read_as_rfc_9110_has_it(header, size, expected):
    assert parse_range(header, size) == expected


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-11", "bytes=-0", "bytes=99999999999999999999-"])
def test_a_range_that_begins_behind_the_end_is_refused_with_the_size(header):
    with pytest.raises(RangeError) as refused:
        parse_range(header, 10)
    assert refused.value.extra == {"size": 10}


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, False),
        ("*", True),
        ('"abc"', True),
        ('W/"abc"', True),
        ('"x", "abc"', True),
        ('"x"', False),
        ("abc", False),
        ('"abcd"', False),
    ],
)
def test_if_none_match_is_a_list_of_tags(header, expected):
    assert should_send_not_modified(header, "abc") is expected


def test_the_whole_is_answered_with_its_length_and_tag():
    plan = plan_read({}, size=10, etag="abc")
    assert (plan.status, plan.first, plan.length) == (200, 0, 10)
    assert plan.headers == {"ETag": '"abc"', "Accept-Ranges": "bytes", "Content-Length": "10"}


def test_a_part_is_answered_with_its_place():
    plan = plan_read({"range": "bytes=2-5"}, size=10, etag="abc")
    assert (plan.status, plan.first, plan.length) == (206, 2, 4)
    assert plan.headers["Content-Range"] == "bytes 2-5/10"
    assert plan.headers["Content-Length"] == "4"


def test_what_the_client_has_is_not_sent_again_whatever_the_range():
    plan = plan_read({"range": "bytes=2-5", "if-none-match": '"abc"'}, size=10, etag="abc")
    assert (plan.status, plan.length) == (304, 0)
    assert "Content-Length" not in plan.headers


@pytest.mark.parametrize(("condition", "status"), [('"abc"', 206), ('"old"', 200), ('W/"abc"', 200)])
def test_a_range_of_another_version_is_answered_whole(condition, status):
    plan = plan_read({"range": "bytes=2-5", "if-range": condition}, size=10, etag="abc")
    assert plan.status == status
