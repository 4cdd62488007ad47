"""What is written as TOML is read again as it was, whatever texts and keys hold."""

from __future__ import annotations

import tomllib
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from covenq.config.toml_text import toml_text

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ("\x7f", "a\n\n\n\nb", '"', "\\u", "]")
)
VALUES = st.booleans() | st.integers(-(2**63), 2**63 - 1) | TEXTS | st.lists(TEXTS, max_size=3)
INLINE = st.dictionaries(TEXTS, VALUES, max_size=3)
NAMES = st.sampled_from(("octo/hello", "o.r/x", "42", "app", "plain", "", "a b"))
TABLES: st.SearchStrategy[dict[str, Any]] = st.recursive(
    st.dictionaries(TEXTS, VALUES | INLINE, max_size=3),
    lambda inner: st.dictionaries(NAMES, VALUES | inner, max_size=4),
    max_leaves=6,
)


@settings(max_examples=150)
@given(st.dictionaries(TEXTS, TABLES | st.lists(TABLES, min_size=1, max_size=3), max_size=4))
def test_it_is_read_as_it_was(tables: dict[str, Any]) -> None:
    assert tomllib.loads(toml_text(tables)) == tables
