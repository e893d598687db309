"""Configurations as earlier versions of the code stored them (in models, checkpoints and results), in today's form."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from bevkd.config.upgrade_train import upgrade_train
from bevkd.registry import settings

# What a stage's `kind` was called.
_CAMERA = {"depth_min": "view", "depth_max": "view", "depth_step": "view", "heights": "view"}
_CAMERA |= {"backbone_options": "backbone", "weights": "backbone", "frozen_stem": "backbone"}
_STAGES = {
    "lidar": ("lidar_encoder", "voxel"),
    "fuser": ("fuser", "concat"),
    "bev": ("bev_encoder", "second_fpn"),
    "head": ("head", "center"),
}


def upgrade(plain: dict[str, Any]) -> dict[str, Any]:
    """A stored configuration (of a whole run) in today's form; one of today's stays as it is."""
    out = dict(plain)
    if "model" in out:
        out["model"] = _model(out["model"])
    if "train" in out:
        out["train"] = upgrade_train(out["train"])
    if "data" in out:
        data = dict(out["data"])
        data.pop("anchors", None)  # nothing read them
        if "reader" in data:
            data["kind"] = data.pop("reader")
        out["data"] = data
    method = (out.get("row") or {}).get("method")
    if method and "name" in method:
        out["row"] = out["row"] | {"method": _method(method)}
    return out


def _method(method: dict[str, Any]) -> dict[str, Any]:
    out = {"kind" if key == "name" else key: value for key, value in method.items()}
    if out.get("kind") == "imitation" and "taps" in (out.get("options") or {}):
        out["options"] = {"features" if key == "taps" else key: value for key, value in out["options"].items()}
    parts = (out.get("options") or {}).get("methods")
    if parts:
        out["options"] = out["options"] | {"methods": [_method(part) for part in parts]}
    return out


def _model(plain: dict[str, Any]) -> dict[str, Any]:
    """All sections held the settings of all kinds, and those of sensors that the network has not."""
    if "encoder" not in (plain.get("lidar") or {}) and "encoder" not in (plain.get("camera") or {}):
        return plain
    model = {key: dict(value) if isinstance(value, dict) else value for key, value in plain.items()}
    sensors = model.get("sensors", ["lidar"])
    norm = {key: model["bev"].pop(f"bn_{key}") for key in ("eps", "momentum") if f"bn_{key}" in model.get("bev", {})}
    model["norm"] = norm
    depth_weight = model.get("loss", {}).pop("depth_weight", 0.0)
    for sensor in ("lidar", "camera"):
        if sensor not in sensors:
            model.pop(sensor, None)
        elif "encoder" in model.get(sensor, {}):
            model[sensor]["kind"] = model[sensor].pop("encoder")
    if len(sensors) < 2:
        model.pop("fuser", None)
    if "camera" in model:
        model["camera"] = _camera(model["camera"]) | {"depth_weight": depth_weight}
    for name, (slot, usual) in _STAGES.items():
        if name in model:
            model[name] = _known(model[name], slot, model[name].get("kind", usual))
    for name in ("loss", "decode"):
        if name in model:
            model[name] = _known(model[name], name, model.get("head", {}).get("kind", "center"))
    return model


def _camera(old: dict[str, Any]) -> dict[str, Any]:
    camera: dict[str, Any] = {"backbone": {}, "view": {}}
    for key, value in old.items():
        if key in _CAMERA:
            camera[_CAMERA[key]]["options" if key == "backbone_options" else key] = value
        elif key not in ("backbone", "depth_net", "view_transform"):
            camera[key] = value
    camera["backbone"]["kind"] = old.get("backbone", "resnet")
    camera["depth_net"] = {"kind": old.get("depth_net", "conv")}
    view = old.get("view_transform", "lift_splat")
    camera["view"] = _known(camera["view"], "view_transform", view) | {"kind": view}
    return camera


def _known(section: dict[str, Any], slot: str, kind: str) -> dict[str, Any]:
    """Without the settings of other kinds: one class held those of all."""
    names = {field.name for field in fields(settings(slot, kind))}
    return {key: value for key, value in section.items() if key in names}
