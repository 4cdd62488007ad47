"""As `test_openapi`, with many more examples."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import settings

from tests.support.openapi_target import SCHEMA, Target, drive, opened


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    with opened() as target:
        yield target


@pytest.mark.deep
@SCHEMA.parametrize()
@settings(max_examples=150)
def test_each_operation_does_as_the_document_says_for_longer(case: schemathesis.Case, target: Target) -> None:
    drive(case, target)
