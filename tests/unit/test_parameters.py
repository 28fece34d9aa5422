"""Values of configuration groups, checked against what a version's server told of its parameters."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argosy.domain.errors import Kind
from argosy.domain.parameters import (
    Override,
    Parameter,
    ParametersRefused,
    amount,
    check_values,
    from_json,
    merged,
    to_json,
)

KB = {"B": 1 / 1024, "kB": 1, "MB": 1024, "GB": 1024**2}
CATALOGUE = [
    Parameter("work_mem", "integer", False, minimum=64, maximum=2147483647, unit="kB", units=KB),
    Parameter("max_connections", "integer", True, minimum=1, maximum=262143),
    Parameter(
        "sort_buffer_size", "integer", False, minimum=1024, maximum=2**64 - 1, units={"k": 1024, "m": 1024**2}
    ),
    Parameter("random_page_cost", "float", False, minimum=0, maximum=1.79769e308),
    Parameter("jit", "boolean", False, allowed=("off", "on")),
    Parameter("activedefrag", "boolean", False, allowed=("no", "yes")),
    Parameter("wal_compression", "string", False, allowed=("pglz", "lz4", "on", "off")),
    Parameter("sql_mode", "string", False, allowed=("STRICT_ALL_TABLES", "ANSI_QUOTES"), several=True),
    Parameter("TimeZone", "string", False),
    Parameter("maxmemory-samples", "integer", False, minimum=1, maximum=64),
    Parameter("port", "integer", True, owned="clients are told the instance's own port"),
]


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("work_mem", 4096, "4096"),
        ("work_mem", "8MB", "8MB"),
        ("work_mem", " 8 MB ", "8192"),
        ("work_mem", "1.5MB", "1536"),
        ("work_mem", 70.0, "70"),
        ("WORK_MEM", 64, "64"),
        ("max_connections", True, "1"),
        ("max_connections", "0300", "300"),
        ("sort_buffer_size", "2M", "2M"),
        ("sort_buffer_size", "2m", "2m"),
        ("sort_buffer_size", 18446744073709551615, "18446744073709551615"),
        ("sort-buffer-size", "4k", "4k"),
        ("maxmemory_samples", 5, "5"),
        ("random_page_cost", 1.1, "1.1"),
        ("random_page_cost", 2, "2"),
        ("random_page_cost", "1e1", "10"),
        ("jit", False, "off"),
        ("jit", "TRUE", "on"),
        ("activedefrag", True, "yes"),
        ("activedefrag", 0, "no"),
        ("wal_compression", "LZ4", "lz4"),
        ("wal_compression", True, "on"),
        ("sql_mode", "ansi_quotes, strict_all_tables", "ANSI_QUOTES,STRICT_ALL_TABLES"),
        ("sql_mode", "", ""),
        ("timezone", "Europe/Berlin", "Europe/Berlin"),
    ],
)
def test_a_value_the_server_takes_is_written_as_its_file_has_it(name: str, value: Any, text: str) -> None:
    assert list(check_values(CATALOGUE, {name: value}).values()) == [text]


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("work_mem", 63, "63 is too small: it must be from 64 to 2147483647 kB"),
        ("work_mem", "3TB", "'3TB' is not a whole number, with B, kB, MB, GB or without"),
        ("work_mem", "3000GB", "too large"),
        ("work_mem", 64.5, "64.5 is not a whole number"),
        ("work_mem", "10 mb", "is not a whole number"),
        ("max_connections", "1e99", "too large"),
        ("max_connections", "many", "'many' is not a whole number"),
        ("max_connections", None, "it must be a whole number, not null"),
        ("max_connections", [1], "not a list"),
        ("max_connections", {}, "not an object"),
        ("random_page_cost", float("inf"), "inf is not a number"),
        ("random_page_cost", "nan", "is not a number"),
        ("jit", "perhaps", "'perhaps' is not a boolean: say on or off"),
        ("jit", 2, "2 is not a boolean"),
        ("wal_compression", "zip", "'zip' is not one of pglz, lz4, on, off"),
        ("sql_mode", "ANSI_QUOTES,x", "'x' is not one of"),
        ("TimeZone", 5, "5 is not a text"),
        ("TimeZone", "UTC\nport = 1", "line breaks"),
        ("TimeZone", "x" * 1025, "1024 characters"),
        ("TimeZone", "\ud800", "Unicode"),
        ("port", 1, "Argosy's to set: clients are told"),
        ("bananas", 1, "there is no such parameter"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_the_reason(name: str, value: Any, reason: str) -> None:
    with pytest.raises(ParametersRefused) as refusal:
        check_values(CATALOGUE, {name: value})
    assert refusal.value.sentence.startswith(f"{name}: ")
    assert reason in refusal.value.sentence
    assert refusal.value.kind is Kind.BUSY


def test_every_wrong_value_is_named_in_one_error() -> None:
    with pytest.raises(ParametersRefused) as refusal:
        check_values(
            CATALOGUE, {"work_mem": 1, "jit": "on", "nope": 1, "port": 2, "JIT": "off", "TimeZone": 3}
        )
    assert [reason.split(":")[0] for reason in refusal.value.reasons] == [
        "work_mem",
        "nope",
        "port",
        "jit",
        "TimeZone",
    ]


def test_a_version_without_parameters_takes_none() -> None:
    with pytest.raises(ParametersRefused, match="has no parameters"):
        check_values([], {})


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([one.name for one in CATALOGUE]) | st.text(), _JSON))
def test_whatever_is_asked_it_is_checked_or_refused_and_never_breaks_out_of_its_line(
    values: dict[str, Any],
) -> None:
    try:
        checked = check_values(CATALOGUE, values)
    except ParametersRefused:
        assert values
    else:
        assert len(checked) == len(values)
        assert all(text.isprintable() or not any(ord(one) < 32 for one in text) for text in checked.values())


@given(st.sampled_from([one for one in CATALOGUE if one.minimum is not None]), st.integers(-(10**29), 10**29))
def test_a_number_is_taken_exactly_within_its_bounds(parameter: Parameter, number: int) -> None:
    assert parameter.minimum is not None
    assert parameter.maximum is not None
    within = parameter.minimum <= number <= parameter.maximum
    try:
        text = check_values(CATALOGUE, {parameter.name: number})[parameter.name]
    except ParametersRefused:
        assert not within
    else:
        assert within
        assert amount(parameter, text) == number


@given(st.integers(1, 4096), st.sampled_from(sorted(KB)))
def test_what_was_checked_once_is_checked_again_to_the_same(number: int, unit: str) -> None:
    try:
        once = check_values(CATALOGUE, {"work_mem": f"{number}{unit}"})
    except ParametersRefused:
        return
    assert check_values(CATALOGUE, once) == once


@pytest.mark.parametrize("parameter", CATALOGUE, ids=lambda parameter: parameter.name)
def test_what_is_stored_is_read_back(parameter: Parameter) -> None:
    assert from_json(to_json(parameter)) == parameter


def test_an_operator_narrows_hides_and_adds_but_does_not_disown() -> None:
    known = {
        one.name: one
        for one in merged(
            CATALOGUE,
            [
                Override("max_connections", "integer", True, 10, 50),
                Override("jit", hidden=True),
                Override("auto_explain.log_min_duration", "integer", False, -1, 1000),
                Override("port", "integer", True, 1, 2),
            ],
        )
    }
    assert (known["max_connections"].minimum, known["max_connections"].maximum) == (10, 50)
    assert "jit" not in known
    assert known["auto_explain.log_min_duration"].type == "integer"
    assert known["port"].owned is not None
