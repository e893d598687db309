from __future__ import annotations

import pytest

from bevkd.config.families import entries, fill, inherited, items, places
from bevkd.errors import ConfigError


def test_words_are_replaced_in_keys_and_values_and_keep_their_type() -> None:
    words = {"loss": "feature", "weight": 10, "on": False, "options": {"k": 3}}
    content = {"{loss}_x": ["{weight}", "{on}", "{options}", "{loss}: {weight}"], "other": 1.5}
    assert fill(content, words) == {"feature_x": [10, False, {"k": 3}, "feature: 10"], "other": 1.5}
    assert fill("{later}", words) == "{later}"
    with pytest.raises(ConfigError, match=r"here: nothing says what \{los\} is \(did you mean 'loss'\?\)"):
        fill("{los}", words, "here")


def test_a_family_is_a_product_with_the_last_axis_fastest() -> None:
    content = {
        "first": {"n": 0},
        "losses": {
            "for": {"loss": {"feature": {"w": 1}, "relation": {"w": 2}}, "adapter": ["", "_adapt"]},
            "each": {
                "{loss}{adapter}": {"weight": "{w}"},
                "inner": {"for": {"k": [1, 2]}, "each": {"{loss}{adapter}{k}": {"k": "{k}"}}},
            },
        },
    }
    found = entries(content, "here")
    assert list(found)[:4] == ["first", "feature", "feature1", "feature2"]
    assert list(found)[4] == "feature_adapt"
    assert len(found) == 1 + 2 * 2 * 3
    assert (found["relation_adapt"], found["relation2"]) == ({"weight": 2}, {"k": 2})
    at = places(content, "here")
    assert list(at) == list(found)
    assert at["first"] == ("first",)
    assert at["relation_adapt"] == ("losses", "each", "{loss}{adapter}")
    assert at["relation2"] == ("losses", "each", "inner", "each", "{loss}{adapter}{k}")
    assert items([1, {"for": {"k": ["a", "b"]}, "each": ["{k}", {"k": "{k}"}]}], "here") == [
        1,
        "a",
        {"k": "a"},
        "b",
        {"k": "b"},
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": {}, "f": {"for": {"x": ["a"]}, "each": {"{x}": {}}}}, "here: 'a' is defined twice"),
        ({"f": {"for": {"x": ["a"]}, "each": {}, "also": 1}}, "here: f: unknown key 'also'"),
        ({"f": {"for": ["a"], "each": {}}}, "`for` wants a mapping"),
        ({"f": {"for": {"x": {False: {}}}, "each": {}}}, "put the word into quotes"),
        (["a"], "wants a mapping"),
    ],
)
def test_bad_families(content: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        entries(content, "here")


def test_like_merges_in_order_and_the_entry_wins() -> None:
    known = {
        "base": {"seeds": [0, 1], "set": {"a": 1, "b": 1}},
        "long": {"set": {"b": 2, "c": 2}},
        "both": {"like": ["base", "long"], "set": {"c": 3}},
        "third": {"like": "both", "seeds": [5]},
        "ring": {"like": "gnir"},
        "gnir": {"like": "ring"},
    }
    assert inherited("third", known.__getitem__, "here") == {"seeds": [5], "set": {"a": 1, "b": 2, "c": 3}}
    with pytest.raises(ConfigError, match="here: ring is like gnir is like ring"):
        inherited("ring", known.__getitem__, "here")
