"""Truncation against the paper's definition and against the released code's mask."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poet.data.truncation import main, truncate_file, truncate_table
from poet.files import UserError
from poet.methods.truncation import truncate_pair

tokens = st.lists(st.integers(0, 1000), min_size=1, max_size=40)
shares = st.sampled_from([0.1, 0.25, 0.3, 0.5, 0.75, 1.0])


@given(tokens, tokens)
def test_poet_is_the_and_of_both_masks(chosen, rejected):
    # The released code: both responses padded to one length, their masks ANDed.
    width = max(len(chosen), len(rejected))
    both = (np.arange(width) < len(chosen)) & (np.arange(width) < len(rejected))
    kept = truncate_pair(chosen, rejected)
    for original, prefix in zip((chosen, rejected), kept, strict=True):
        padded = np.array(original + [-1] * (width - len(original)))
        assert prefix == padded[both].tolist()


@given(tokens, tokens, st.sampled_from(["none", "poet", "own"]), shares)
def test_prefixes_and_lengths(chosen, rejected, strategy, keep):
    kept = truncate_pair(chosen, rejected, strategy, keep)
    for original, other, prefix in zip((chosen, rejected), (rejected, chosen), kept, strict=True):
        base = min(len(original), len(other)) if strategy == "poet" else len(original)
        # Integer arithmetic in percent: an exact ceiling.
        share = 100 if strategy == "none" else round(keep * 100)
        assert len(prefix) == max(1, -(-share * base // 100))
        assert original[: len(prefix)] == prefix
    swapped = truncate_pair(rejected, chosen, strategy, keep)
    assert swapped == kept[::-1]


@given(tokens, tokens)
def test_poet_twice_is_poet(chosen, rejected):
    once = truncate_pair(chosen, rejected)
    assert truncate_pair(*once) == once


@given(tokens, tokens, st.sampled_from(["poet", "own"]), shares)
def test_no_eos_is_invented(chosen, rejected, strategy, keep):
    """A cut response does not end; of POET's pair the shorter one keeps its EOS."""
    eos = 1001
    pair = [*chosen, eos], [*rejected, eos]
    for full, kept in zip(pair, truncate_pair(*pair, strategy, keep), strict=True):
        assert (eos in kept) == (len(kept) == len(full))
    kept = truncate_pair(*pair)
    shorter = min((0, 1), key=lambda side: len(pair[side]))
    assert kept[shorter] == pair[shorter] and kept[shorter][-1] == eos


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], [1]), "empty response"),
        (([1], [1], "half"), "unknown truncation strategy 'half'"),
        (([1], [1], "poet", 0.0), "keep is 0.0"),
        (([1], [1], "own", 1.5), "keep is 1.5"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        truncate_pair(*arguments)


@given(
    st.lists(st.tuples(tokens, tokens), min_size=1, max_size=8),
    st.sampled_from(["none", "poet", "own"]),
    shares,
)
def test_table_equals_pairs(pairs, strategy, keep):
    kind = pa.list_(pa.int32())
    table = pa.table(
        {
            "chosen_ids": pa.array([c for c, _ in pairs], kind),
            "rejected_ids": pa.array([r for _, r in pairs], kind),
            "split": ["train"] * len(pairs),
        }
    )
    expected = [truncate_pair(c, r, strategy, keep) for c, r in pairs]
    # A slice checks that offsets need not start at zero.
    for start in (0, len(pairs) - 1):
        out = truncate_table(table.slice(start), strategy, keep)
        got = zip(out["chosen_ids"].to_pylist(), out["rejected_ids"].to_pylist(), strict=True)
        assert list(got) == expected[start:]
        assert out.schema == table.schema


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
    with pytest.raises(UserError, match="--keep: keep is .*, expected a share in"):
        main(["--tokens", "absent.parquet", "--output", "out.parquet", *flag])


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
