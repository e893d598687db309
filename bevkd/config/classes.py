"""`data.classes` as people write it: a list of classes, own category names with the classes they count as, or both.

    classes: [car, truck]                  what is learnt
    classes: {my_truck: truck}             beside what the layers below say: `my_truck` counts as a truck
    classes: [car, {my_truck: truck}]      both at once: cars and trucks

Settings hold the two apart: `data.classes` and `data.categories`. A category that counts as `null` is left out on
purpose.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bevkd.classes import LABELS
from bevkd.config.plain import Layer, read_yaml
from bevkd.errors import ConfigError, nearest


def split_classes(value: Any) -> tuple[list[Any] | None, dict[Any, Any]]:
    """Classes (none where they stay as they are) and categories of a value of `data.classes`."""
    if isinstance(value, dict):
        return None, dict(value)
    if not isinstance(value, list | tuple):
        return value, {}
    names = [one for one in value if not isinstance(one, dict)]
    mapped = {key: name for one in value if isinstance(one, dict) for key, name in one.items()}
    for name in mapped.values():
        if name is not None and name not in names:
            names.append(name)
    return names, mapped


def normalised(data: Any) -> Any:
    """Settings of the data with classes and categories apart."""
    if not isinstance(data, dict) or data.get("classes") is None:
        return data
    classes, categories = split_classes(data["classes"])
    if not categories and classes is not None:
        return data
    out = {key: value for key, value in data.items() if key != "classes"}
    if classes is not None:
        out["classes"] = classes
    own = data.get("categories") or {}
    return out | {"categories": {**own, **categories}} if isinstance(own, dict) else data


def normalised_layer(layer: Layer) -> Layer:
    """A layer of settings with classes and categories apart."""
    data = layer.plain.get("data")
    apart = normalised(data)
    return layer if apart is data else replace(layer, plain={**layer.plain, "data": apart})


def check_categories(categories: dict[Any, Any], where: str = "data.categories") -> dict[str, str | None]:
    """Category names with known classes.

    Raises:
        ConfigError: a class that there is not, or one category twice.
    """
    seen: dict[str, str] = {}
    for name, label in categories.items():
        if not isinstance(name, str) or not name:
            raise ConfigError(f"{where}: a category must be a name, not {name!r}")
        if label is not None and label not in LABELS:
            hint = nearest(str(label), LABELS)
            raise ConfigError(f"{where}: {name!r} counts as unknown class {label!r}{hint}; known: {', '.join(LABELS)}")
        if name.casefold() in seen:
            raise ConfigError(f"{where}: {name!r} and {seen[name.casefold()]!r} are the same category")
        seen[name.casefold()] = name
    return categories


def read_categories(path: Any) -> dict[str, str | None]:
    """Own category names of a YAML file: what its key `classes` says in one of the ways above.

    Raises:
        ConfigError: the file is missing or malformed, maps nothing, or names a class that there is not.
    """
    content = read_yaml(path)
    if not isinstance(content, dict) or "classes" not in content:
        raise ConfigError(f"{path}: wants a key `classes`, such as `classes: {{my_truck: truck}}`")
    classes, categories = split_classes(content["classes"])
    if not isinstance(classes, list | None):
        raise ConfigError(f"{path}: classes: wants a list or a mapping")
    for name in classes or []:
        if name not in LABELS:
            raise ConfigError(f"{path}: classes: unknown class {name!r}{nearest(str(name), LABELS)}")
    if not categories:
        raise ConfigError(f"{path}: classes: maps no category, such as `classes: {{my_truck: truck}}` does")
    return check_categories(categories, f"{path}: classes")
