from dataclasses import fields

import pytest

from gcc_search.results.schema import (
    EPOCH_COLUMNS,
    EPOCHS,
    HEATMAP_COLUMNS,
    HEATMAPS,
    IMAGE_COLUMNS,
    IMAGES,
    PAIR_COLUMNS,
    PAIRS,
    EpochRow,
)

COLUMNS = [*EPOCH_COLUMNS, *IMAGE_COLUMNS, *HEATMAP_COLUMNS, *PAIR_COLUMNS]


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)
def test_every_column_has_unit_direction_meaning_and_says_what_missing_means(column):
    assert column.unit
    assert column.meaning
    assert column.missing
    assert column.direction in ("up", "down", "none")


@pytest.mark.parametrize("schema", [EPOCHS, IMAGES, HEATMAPS, PAIRS], ids=["epochs", "images", "heatmaps", "pairs"])
def test_the_file_itself_carries_what_each_column_means(schema):
    for item in schema:
        assert set(item.metadata) == {b"unit", b"direction", b"meaning", b"missing"}
    assert schema.metadata[b"gcc_search.schema_version"] == b"2"


@pytest.mark.parametrize("columns", [EPOCH_COLUMNS, IMAGE_COLUMNS, PAIR_COLUMNS], ids=["epochs", "images", "pairs"])
def test_column_names_are_unique(columns):
    assert len({column.name for column in columns}) == len(columns)


def test_a_column_is_nullable_exactly_where_missing_has_a_meaning():
    for column, item in zip(COLUMNS, [*EPOCHS, *IMAGES, *HEATMAPS, *PAIRS], strict=True):
        assert item.nullable == (column.missing != "never")


def test_an_epoch_row_has_the_columns_in_their_order():
    assert [field.name for field in fields(EpochRow)] == [column.name for column in EPOCH_COLUMNS]
