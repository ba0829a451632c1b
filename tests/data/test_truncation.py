"""Truncation of tables and files of tokenized pairs."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poet.data.truncation import main, truncate_file, truncate_table
from poet.files import UserError
from poet.methods.truncation import TRUNCATIONS, Truncation, name_of, truncate_pair

tokens = st.lists(st.integers(0, 1000), min_size=1, max_size=40)
shares = st.sampled_from([0.1, 0.25, 0.3, 0.5, 0.75, 1.0])
choices = st.just({"strategy": "none"}) | st.fixed_dictionaries(
    {"strategy": st.sampled_from(["poet", "own"]), "keep": shares}
)


@given(
    st.lists(st.tuples(tokens, tokens), min_size=1, max_size=8),
    choices,
)
def test_table_equals_pairs(pairs, choice):
    kind = pa.list_(pa.int32())
    table = pa.table(
        {
            "chosen_ids": pa.array([c for c, _ in pairs], kind),
            "rejected_ids": pa.array([r for _, r in pairs], kind),
            "split": ["train"] * len(pairs),
        }
    )
    expected = [truncate_pair(c, r, **choice) for c, r in pairs]
    # A slice checks that offsets need not start at zero.
    for start in (0, len(pairs) - 1):
        out = truncate_table(table.slice(start), **choice)
        got = zip(out["chosen_ids"].to_pylist(), out["rejected_ids"].to_pylist(), strict=True)
        assert list(got) == expected[start:]
        assert out.schema == table.schema


def test_a_pairs_draw_is_its_own(tmp_path):
    """It depends on the pair's name and the seed: not on its row, its neighbours or the file."""
    rows = [(list(range(30)), list(range(30, 55)), f"{i:016x}") for i in range(200)]
    names = ("chosen_ids", "rejected_ids", "pair_hash")

    def cut(order, group, **seed):
        table = pa.Table.from_pylist([dict(zip(names, rows[i], strict=True)) for i in order])
        pq.write_table(table, tmp_path / "tokens.parquet", row_group_size=group)
        truncate_file(tmp_path / "tokens.parquet", tmp_path / "x.parquet", "random", **seed)
        out = pq.read_table(tmp_path / "x.parquet").to_pylist()
        return {row["pair_hash"]: (row["chosen_ids"], row["rejected_ids"]) for row in out}

    found = cut(range(200), 64)
    assert cut(range(199, -1, -1), 7) == found
    assert cut(range(0, 200, 3), 64) == {rows[i][2]: found[rows[i][2]] for i in range(0, 200, 3)}
    assert found == {key: truncate_pair(c, r, "random", key) for c, r, key in rows}
    assert len({len(chosen) for chosen, _ in found.values()}) == 25
    assert cut(range(200), 64, seed=1) != found


def test_a_draw_needs_the_pairs_names(tmp_path):
    pq.write_table(pa.table({"chosen_ids": [[1]], "rejected_ids": [[2]]}), tmp_path / "x.parquet")
    with pytest.raises(UserError, match="x.parquet has no column pair_hash; expected tokenized"):
        truncate_file(tmp_path / "x.parquet", tmp_path / "out.parquet", "random")


def test_file_keeps_rows_and_schema(tmp_path):
    kind = pa.list_(pa.int32())
    rows = [([1] * (i % 7 + 1), [2] * (i % 5 + 1)) for i in range(1000)]
    table = pa.table(
        {
            "prompt_ids": pa.array([[i] for i in range(1000)], kind),
            "chosen_ids": pa.array([c for c, _ in rows], kind),
            "rejected_ids": pa.array([r for _, r in rows], kind),
        }
    )
    pq.write_table(table, tmp_path / "tokens.parquet", row_group_size=64)
    truncate_file(tmp_path / "tokens.parquet", tmp_path / "poet.parquet")
    out = pq.read_table(tmp_path / "poet.parquet")
    assert out.schema == table.schema
    assert out["prompt_ids"].equals(table["prompt_ids"])
    lengths = [len(ids) for ids in out["chosen_ids"].to_pylist()]
    assert lengths == [min(len(c), len(r)) for c, r in rows]
    assert not list(tmp_path.glob(".partial*"))


@pytest.mark.parametrize("flag", [["--keep", "2"], ["--keep", "0"]])
def test_a_share_out_of_range_is_said_before_anything_is_read(flag):
    with pytest.raises(UserError, match="--strategy poet: keep is .*, expected a share in"):
        main(["--tokens", "absent.parquet", "--output", "out.parquet", *flag])


def test_a_parameter_is_read_as_its_strategys_own(tmp_path, monkeypatch):
    """Another strategy has one of the same name, which is a number of tokens; a third, words."""
    for name, fragment in (
        ("first", {"type": "integer", "default": 1}),
        ("end", {"enum": ["a"], "default": "a"}),
    ):
        other = Truncation(lambda c, r, keep: (keep, keep), {"keep": fragment}, None)
        monkeypatch.setitem(TRUNCATIONS, name, other)
    pq.write_table(pa.table({"chosen_ids": [[1] * 8], "rejected_ids": [[2] * 9]}), tmp_path / "x")
    files = ["--tokens", f"{tmp_path}/x", "--output", f"{tmp_path}/out"]
    for strategy, keep, n in (("poet", "0.5", 4), ("first", "3", 3)):
        main([*files, "--strategy", strategy, "--keep", keep])
        assert len(pq.read_table(tmp_path / "out")["chosen_ids"][0]) == n
    assert name_of({"strategy": "end", "keep": "a"}) == "end-a"
    for strategy, keep, said in (
        ("first", "0.5", "invalid literal"),
        ("none", "1", "no parameter"),
    ):
        with pytest.raises(UserError, match=f"--strategy {strategy}: .*{said}"):
            main([*files, "--strategy", strategy, "--keep", keep])


@pytest.mark.parametrize(
    ("rejected", "said"),
    [
        ([[1]] * 6 + [[]], "row 7: rejected_ids is empty"),
        ([[1]] * 5 + [None] + [[1]], "row 6: rejected_ids is empty"),
        (["text"] * 7, "rejected_ids is string; expected lists of token ids"),
    ],
)
def test_tokens_that_are_none(tmp_path, rejected, said):
    source, target = tmp_path / "tokens.parquet", tmp_path / "out.parquet"
    pq.write_table(
        pa.table({"chosen_ids": [[1]] * 7, "rejected_ids": rejected}), source, row_group_size=4
    )
    with pytest.raises(UserError, match=f"{source}.*{said}"):
        truncate_file(source, target)
    assert not target.exists()


def test_a_file_that_is_no_parquet(tmp_path):
    (tmp_path / "pairs.jsonl").write_text("{}")
    for name in ("pairs.jsonl", "absent"):
        with pytest.raises(UserError, match=f"{tmp_path / name}: not a readable parquet file"):
            truncate_file(tmp_path / name, tmp_path / "out.parquet")
