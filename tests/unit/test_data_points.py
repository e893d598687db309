from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bevkd.data.points import BLOCK, merge_sweeps, multiply, read_lidar, transform
from bevkd.data.radar import FIELDS, RadarFilter, merge_radar, read_pcd, read_radar
from bevkd.errors import DataError
from bevkd.geometry import pose, quaternion_from_yaw

_TYPES = ["F", "F", "F", "I", "I", "F", "F", "F", "F", "F", "I", "I", "I", "I", "I", "I", "I", "I"]
_SIZES = [4, 4, 4, 1, 2, 4, 4, 4, 4, 4, 1, 1, 1, 1, 1, 1, 1, 1]


def write_radar(path: Path, rows: list[dict[str, float]], **header: str) -> Path:
    """A radar file laid out like those of nuScenes."""
    kinds = {"F": "f", "I": "i"}
    dtype = np.dtype([(n, f"<{kinds[t]}{s}") for n, t, s in zip(FIELDS, _TYPES, _SIZES, strict=True)])
    cloud = np.zeros(len(rows), dtype=dtype)
    for i, row in enumerate(rows):
        for name, value in {"ambig_state": 3, **row}.items():
            cloud[name][i] = value
    lines = {
        "VERSION": "0.7",
        "FIELDS": " ".join(FIELDS),
        "SIZE": " ".join(map(str, _SIZES)),
        "TYPE": " ".join(_TYPES),
        "COUNT": " ".join("1" for _ in FIELDS),
        "WIDTH": str(len(rows)),
        "HEIGHT": "1",
        "VIEWPOINT": "0 0 0 1 0 0 0",
        "POINTS": str(len(rows)),
        "DATA": "binary",
        **header,
    }
    text = "# .PCD v0.7 - Point Cloud Data file format\n" + "".join(f"{k} {v}\n" for k, v in lines.items())
    path.write_bytes(text.encode() + cloud.tobytes())
    return path


def test_lidar_file(tmp_path: Path) -> None:
    points = np.arange(15, dtype="<f4").reshape(3, 5)
    path = tmp_path / "a.pcd.bin"
    path.write_bytes(points.tobytes())
    np.testing.assert_array_equal(read_lidar(path), points)


@pytest.mark.parametrize("content", [b"", b"\0" * 21, np.full(5, np.nan, "<f4").tobytes()])
def test_bad_lidar_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.pcd.bin"
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        read_lidar(path, "abc")
    assert (error.value.file, error.value.token) == (path, "abc")


def test_a_lidar_file_may_hold_other_columns_that_are_not_finite(tmp_path: Path) -> None:
    """Only coordinates and intensity are looked at; and finite values whose sum overflows are finite."""
    points = np.zeros((2, 5), "<f4")
    points[0, 4] = np.nan
    points[:, 3] = 3e38
    path = tmp_path / "a.pcd.bin"
    path.write_bytes(points.tobytes())
    np.testing.assert_array_equal(read_lidar(path), points)


_SIZES_OF_CLOUDS = (0, 1, 2, 17, BLOCK - 1, BLOCK, BLOCK + 1, BLOCK + BLOCK // 2, BLOCK + BLOCK // 2 + 1,
                    2 * BLOCK, 2 * BLOCK + 1, 58_300, 111_112, 120_001, 374_000)  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("count", _SIZES_OF_CLOUDS)
def test_blocks_have_the_bits_of_the_whole_product(count: int, dtype: type) -> None:
    rng = np.random.default_rng(count)
    points = (rng.normal(size=(count, 5)) * 40).astype(np.float32)
    for matrix in (rng.normal(size=(3, 3)).astype(dtype), rng.normal(size=(3, 3)).T.astype(dtype)):
        whole = points[:, :3] @ matrix
        found = multiply(points, matrix)
        assert found.dtype == whole.dtype
        np.testing.assert_array_equal(found, whole)


def test_no_block_is_a_single_row_or_large_enough_for_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """From 58,255 rows on OpenBLAS divides a product with a 3x3 matrix among threads."""
    sizes: list[int] = []
    matmul = np.matmul

    def spy(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> np.ndarray:
        sizes.append(len(a))
        return matmul(a, b, out=out)

    monkeypatch.setattr(np, "matmul", spy)
    for count in _SIZES_OF_CLOUDS[3:]:
        sizes.clear()
        multiply(np.zeros((count, 3), np.float32), np.eye(3, dtype=np.float32))
        assert sum(sizes) == count
        assert max(sizes) < 58_255
        assert len(sizes) == 1 or min(sizes) > BLOCK // 2


def test_transform_moves_coordinates_and_keeps_the_rest() -> None:
    points = sweep(1.0, 3)
    moved = transform(points, pose([1.0, 2.0, 3.0], quaternion_from_yaw(np.pi / 2)))
    np.testing.assert_allclose(moved, [[1, 3, 3, 7, 30]] * 3, atol=1e-6)
    assert points[0, 0] == 1.0


def sweep(x: float, n: int = 2) -> np.ndarray:
    points = np.zeros((n, 5), dtype=np.float32)
    points[:, 0], points[:, 3], points[:, 4] = x, 7, 30  # intensity; ring, which must not become dt
    return points


def test_sweeps_are_moved_and_aged() -> None:
    turned = pose([1.0, 2.0, 3.0], quaternion_from_yaw(np.pi / 2))
    merged = merge_sweeps([(sweep(1), np.eye(4), 0.0), (sweep(2, 3), turned, 0.05)], count=1)
    assert merged.dtype == np.float32
    np.testing.assert_allclose(merged[:2], [[1, 0, 0, 7, 0]] * 2)
    np.testing.assert_allclose(merged[2:], [[1, 4, 3, 7, 0.05]] * 3, atol=1e-6)


@pytest.mark.parametrize(
    ("available", "expected"), [(0, [1, 1, 1, 1]), (1, [1, 2, 2, 2]), (2, [1, 2, 3, 3]), (5, [1, 2, 3, 4])]
)
def test_last_sweep_stands_in_for_missing_ones(available: int, expected: list[int]) -> None:
    sweeps = [(sweep(i + 1, 1), np.eye(4), 0.05 * i) for i in range(available + 1)]
    merged = merge_sweeps(sweeps, count=3)
    assert merged[:, 0].tolist() == expected
    np.testing.assert_allclose(merged[:, 4], [0.05 * (x - 1) for x in expected], atol=1e-7)


def test_radar_fields_and_filters(tmp_path: Path) -> None:
    rows: list[dict[str, float]] = [
        {"x": 1, "y": 2, "z": 3, "rcs": 4, "vx": 50, "vx_comp": 5, "vy_comp": 6, "dyn_prop": 1, "id": 300},
        {"x": 2, "invalid_state": 4},
        {"x": 3, "ambig_state": 1},
        {"x": 4, "dyn_prop": 7},
        {"x": float("nan")},
    ]
    path = write_radar(tmp_path / "r.pcd", rows)
    np.testing.assert_array_equal(read_radar(path), np.float32([[1, 2, 3, 4, 5, 6]]))
    everything = read_radar(path, keep=RadarFilter(None, None, None))
    assert everything[:, 0].tolist() == [1, 2, 3, 4]  # the NaN point says that the radar saw nothing
    assert read_pcd(path)["id"][0] == 300


@pytest.mark.parametrize(
    ("header", "field"),
    [({"DATA": "ascii"}, "DATA"), ({"POINTS": "9"}, "POINTS"), ({"TYPE": "F"}, "header"), ({"POINTS": "x"}, "header"),
     ({"FIELDS": " ".join(("q", *FIELDS[1:]))}, "FIELDS")],
)  # fmt: skip
def test_bad_radar_file(tmp_path: Path, header: dict[str, str], field: str) -> None:
    path = write_radar(tmp_path / "r.pcd", [{"x": 1}], **header)
    with pytest.raises(DataError) as error:
        read_radar(path, "abc")
    assert (error.value.file, error.value.token, error.value.field) == (path, "abc", field)


def test_empty_radar(tmp_path: Path) -> None:
    assert merge_radar([(read_radar(write_radar(tmp_path / "r.pcd", [])), np.eye(4), 0.0)]).shape == (0, 7)


def test_radar_velocities_turn_with_the_sensor(tmp_path: Path) -> None:
    points = read_radar(write_radar(tmp_path / "r.pcd", [{"x": 10, "vx_comp": 2, "vy_comp": 1, "rcs": 3}]))
    merged = merge_radar([(points, pose([0.0, 0.0, 1.0], quaternion_from_yaw(np.pi)), 0.1)])
    np.testing.assert_allclose(merged, [[-10, 0, 1, 3, -2, -1, 0.1]], atol=1e-5)
