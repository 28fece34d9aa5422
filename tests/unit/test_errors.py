"""Errors survive being stored by the workflow engine, and each kind has its documented fault."""

import pickle

import pytest

from argosy.api.faults import FAULTS
from argosy.domain import errors
from argosy.domain.errors import BY_KIND, ArgosyError, InstanceBusy, Kind


def test_an_error_comes_back_from_a_pickle_as_it_was() -> None:
    error = InstanceBusy(instance_id="i1", status="BUILD")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert (type(again), again.sentence, again.code, again.status) == (
        InstanceBusy,
        error.sentence,
        "instance-busy",
        "BUILD",
    )


@pytest.mark.parametrize("kind", list(Kind))
def test_every_kind_has_a_fault_and_a_class(kind: Kind) -> None:
    assert kind in FAULTS
    assert BY_KIND[kind].kind is kind


def test_codes_tell_errors_apart() -> None:
    found = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, ArgosyError)]
    codes = [cls.code for cls in found if cls is not ArgosyError]
    assert sorted(set(codes)) == sorted(codes)
