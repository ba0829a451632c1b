"""How much goes through a model at a time where a configuration says `auto`."""

from hypothesis import given
from hypothesis import strategies as st

from poet.sizes.architecture import Architecture
from poet.sizes.batches import MOST, TOKENS, filled, kept_bytes, micro_batch, sampling_batch

SMOLLM2 = {
    "model_type": "llama", "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536,
    "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
}  # fmt: skip
SHAPES = st.builds(
    Architecture,
    vocab_size=st.integers(300, 200_000),
    hidden_size=st.integers(1, 128).map(lambda n: 64 * n),
    intermediate_size=st.integers(32, 30_000),
    num_hidden_layers=st.integers(1, 80),
    num_attention_heads=st.integers(1, 64),
    num_key_value_heads=st.integers(1, 64),
    head_dim=st.sampled_from([32, 64, 128]),
    tie_word_embeddings=st.booleans(),
)


@given(SHAPES, st.integers(2, 8192), st.integers(1, 512), st.booleans())
def test_a_micro_batch_divides_the_global_one_and_fits(shape, longest, batch, checkpointing):
    size = micro_batch(shape, longest, batch, checkpointing)
    assert batch % size == 0
    if size > 1:
        assert size * longest * kept_bytes(shape, checkpointing) <= MOST
        assert size * longest <= TOKENS


@given(SHAPES, st.integers(2, 8192))
def test_one_answer_can_always_be_sampled(shape, longest):
    assert 1 <= sampling_batch(shape, longest) <= sampling_batch(shape, 1)


def test_numbers_that_are_said_stay():
    shape = Architecture.of(SMOLLM2)
    asked = {"token_budget": 4096, "per_device_batch_size": 8, "global_batch_size": 32}
    assert filled(asked, shape, 320, 160) == asked
    left = {**dict.fromkeys(asked, "auto"), "global_batch_size": 32}
    found = filled(left, shape, 320, 160)
    # 16 bytes for each of 134.5 million parameters hold the activations of some thousand tokens.
    assert 900 < found["token_budget"] < 1300 and found["per_device_batch_size"] == 2
    more = filled({**left, "gradient_checkpointing": True}, shape, 9, 9)
    assert found["token_budget"] < more["token_budget"] <= TOKENS


def test_a_family_whose_sizes_are_unknown_gets_small_batches():
    assert Architecture.found({"model_type": "mamba", "vocab_size": 9, "hidden_size": 8}) is None
    left = {"global_batch_size": 8, "per_device_batch_size": "auto", "token_budget": "auto"}
    found = filled(left, None, 320, 160)
    assert (found["per_device_batch_size"], found["token_budget"]) == (1, 2048)
    assert sampling_batch(None, 100) == 8
