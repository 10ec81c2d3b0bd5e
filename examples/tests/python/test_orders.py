import psycopg
import pytest


@pytest.mark.parametrize("item", [1, 2, 3])
def test_each_test_starts_from_the_seeded_rows(database_url, item):
    with psycopg.connect(database_url) as connection:
        connection.execute("DELETE FROM item WHERE id = %s", [item])
        assert connection.execute("SELECT count(*) FROM item").fetchone() == (2,)
