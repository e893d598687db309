"""What a row's paper sets of its run, as layers: recipe, row, row at the scale."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bevkd.config.models import lineage
from bevkd.config.papers import load_papers, paper_of, recipes_of
from bevkd.config.places import config_tree
from bevkd.config.plain import ABSENT, Layer, value_at
from bevkd.config.recipe import RecipePart
from bevkd.config.schema import RowConfig
from bevkd.config.training import InitConfig


def recipe_parts(row: RowConfig, scale: str) -> Iterator[tuple[RecipePart, Layer]]:
    """Parts of the recipe of a row's paper that hold for it, and what each sets; later ones win."""
    paper = paper_of(row.id)
    if paper is None:
        return
    models = lineage(config_tree(), row.model)
    for source in recipes_of(paper, load_papers()):
        for number, part in enumerate(source.recipe.parts):
            if part.applies(scale, row.dataset, models):
                label = f"recipe of {source.name}, part {number}"
                yield part, Layer(label, part.settings, source.file("recipe"), ("parts", str(number)))


def recipe_layers(row: RowConfig, scale: str) -> list[Layer]:
    """What the recipe of a row's paper sets; later ones win."""
    return [layer for _, layer in recipe_parts(row, scale)]


def recipe_init(row: RowConfig, scale: str) -> InitConfig | tuple[InitConfig, ...] | None:
    """The weights that a row's recipe has it start from, if it names some; those of the last part that applies."""
    named = [part.init for part, _ in recipe_parts(row, scale) if part.init is not None]
    return named[-1] if named else None


def row_layers(row: RowConfig, scale: str) -> list[Layer]:
    """What a row sets itself: its `set`, then what is `at` the scale."""
    paper = paper_of(row.id)
    if paper is None:
        return [Layer(f"row {row.id}", row.set, of_run=True)]
    pieces = paper.pieces[row.id]
    file = pieces[-1].path  # the row itself
    out = [Layer(f"row {row.id}", row.set, file, of_run=True, parts=_of(pieces, ("set",)))]
    if (settings := paper.at[row.id].get(scale)) is not None:
        parts = _of(pieces, ("at", scale), f" at {scale}")
        out.append(Layer(f"row {row.id} at {scale}", settings, file, of_run=True, parts=parts))
    return out


def _of(pieces: Iterable[Layer], keys: tuple[str, ...], ending: str = "") -> tuple[Layer, ...]:
    """What the pieces of a row say below some keys."""
    found = ((piece, value_at(piece.plain, keys)) for piece in pieces)
    return tuple(
        Layer(f"{piece.label}{ending}", plain, piece.path, (*piece.at, *keys))
        for piece, plain in found
        if plain and plain is not ABSENT
    )


def paper_layers(row: RowConfig, scale: str) -> list[Layer]:
    """Everything that a row's paper sets; later ones win."""
    return [*recipe_layers(row, scale), *row_layers(row, scale)]
