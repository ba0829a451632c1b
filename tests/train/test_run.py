"""What surrounds a training: memory errors explained, the saved folder, its card, its logs."""

import json
import shutil
import signal
import stat

import pytest
import torch
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import ModelCardData
from peft import PeftModel
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoModelForCausalLM, AutoTokenizer

from poet import precision
from poet.data.ends import configured_ends
from poet.files import UMASK, UserError, read_json, write_json
from poet.train import preference
from poet.train.arguments import common_arguments
from poet.train.checkpoints import SIGNALS
from poet.train.run import explained, write_card
from poet.train.trainer import PreferenceTrainer
from training_runs import arguments, make_inputs, record_of


@pytest.fixture(scope="module")
def inputs(start, tmp_path_factory):
    return make_inputs(start[0], tmp_path_factory.mktemp("inputs"), n_train=9, n_test=3)


@pytest.fixture(scope="module")
def trained(inputs, tmp_path_factory):
    """A finished run with LoRA; the folder of all that it wrote."""
    folder = tmp_path_factory.mktemp("trained")
    lora = {"r": 4, "lora_alpha": 8}
    preference.main(arguments(inputs, record_of(lora=lora), folder))
    return folder


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
    ],
    ids=["GPU", "Python", "torch on a CPU"],
)
def test_out_of_memory_names_the_settings(inputs, tmp_path, monkeypatch, error, planted):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(PreferenceTrainer, "compute_loss", fail)
    handlers = list(map(signal.getsignal, SIGNALS))
    with pytest.raises(UserError) as found:
        preference.main(arguments(inputs, record_of(), tmp_path))
    assert list(map(signal.getsignal, SIGNALS)) == handlers
    message = str(found.value)
    assert message.startswith(f"out of memory: {str(error) or 'MemoryError'}")
    for text in ("settings.world.preference", "per_device_batch_size", "gradient_checkpointing"):
        assert text in message
    assert not (tmp_path / "model").exists()
    planted(f"training: out of memory ({type(error).__name__})", message, "checkpoints are kept")


@pytest.mark.parametrize("kind", [RuntimeError, NotImplementedError, torch.AcceleratorError])
def test_other_errors_are_not_called_memory(kind):
    with pytest.raises(kind, match="shapes"), explained("world", "sft"):
        raise kind("shapes do not match")


def test_lora_is_merged_into_a_whole_model(inputs, trained):
    folder = trained / "model"
    assert not list(folder.glob("adapter*")) and not list(folder.glob("*.bin"))
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o666 & ~UMASK}
    model = AutoModelForCausalLM.from_pretrained(folder)
    start = AutoModelForCausalLM.from_pretrained(inputs["model"])
    assert not isinstance(model, PeftModel) and model.dtype == torch.float32
    changed = [
        name
        for (name, new), old in zip(model.named_parameters(), start.parameters(), strict=True)
        if not torch.equal(new, old)
    ]
    assert changed and all("_proj" in name for name in changed)
    # Updates of rank 4 at most.
    update = dict(model.named_parameters())[changed[0]] - dict(start.named_parameters())[changed[0]]
    assert 1 <= torch.linalg.matrix_rank(update, rtol=1e-3) <= 4
    assert AutoTokenizer.from_pretrained(folder).chat_template


def test_the_card_says_method_data_and_numbers(trained):
    text = (trained / "model" / "README.md").read_text()
    card = ModelCard(text)
    assert isinstance(card.data, ModelCardData)
    assert card.data.library_name == "transformers" and "poet" in card.data.tags
    assert card.data.license is None and card.data.base_model is None
    report = read_json(trained / "model" / "train.json")
    last = {key: value for row in report["log_history"] for key, value in row.items()}
    assert "| objective | dpo |" in text and "| train | 9 |" in text
    assert f"| loss on test pairs | {round(last['eval_loss'], 4)} |" in text
    accuracy = round(last["eval_rewards/accuracies"], 4)
    assert f"| share of test pairs ranked right | {accuracy} |" in text


def test_the_card_names_what_is_on_the_hub(tmp_path):
    record = {"model": "org/model", "dataset": "org/pairs", "beta": 0.1}
    write_card(tmp_path, "title", record, {"train": 1}, {})
    data = ModelCard((tmp_path / "README.md").read_text()).data
    assert (data.base_model, data.datasets) == ("org/model", "org/pairs")
    (tmp_path / "local").mkdir()
    write_card(tmp_path, "title", {"model": str(tmp_path / "local")}, {}, {})
    assert ModelCard((tmp_path / "README.md").read_text()).data.base_model is None


def test_tensorboard_has_training_and_evaluation(trained):
    events = EventAccumulator(str(trained / "logs")).Reload()
    tags = events.Tags()["scalars"]
    assert {"train/loss", "train/rewards/margins", "eval/loss"} <= set(tags)
    report = read_json(trained / "model" / "train.json")
    logged = [row["loss"] for row in report["log_history"] if "loss" in row]
    assert [event.value for event in events.Scalars("train/loss")] == pytest.approx(logged)


@pytest.mark.parametrize(
    ("dtype", "native", "expected"),
    [("bfloat16", True, True), ("bfloat16", False, False), ("float32", True, False)],
)
def test_autocast_where_the_hardware_has_it(monkeypatch, dtype, native, expected):
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda device: native)
    settings = {"global_batch_size": 8, "per_device_batch_size": 4, "dtype": dtype}
    assert common_arguments(settings)["bf16"] is expected


def test_gradient_checkpointing_changes_no_weight(inputs, tmp_path):
    weights = []
    for name, setting in (("plain", False), ("checkpointed", True)):
        record = record_of(gradient_checkpointing=setting)
        preference.main(arguments(inputs, record, tmp_path / name))
        weights.append(AutoModelForCausalLM.from_pretrained(tmp_path / name / "model"))
        assert json.loads(
            (tmp_path / name / "model" / "train.json").read_text()
        )["record"]["gradient_checkpointing"] is setting  # fmt: skip
    for mine, theirs in zip(*(model.parameters() for model in weights), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("lora", [None, {"r": 4, "lora_alpha": 8}], ids=["whole", "LoRA"])
def test_a_start_model_with_llama_2s_generation_settings_is_trained_to_the_end(
    start, tmp_path, lora
):
    """transformers saves no model with a temperature and without do_sample, once it is changed."""
    model = shutil.copytree(start[0], tmp_path / "start")
    said = {"temperature": 0.9, "top_p": 0.6, "eos_token_id": [1, 40]}
    write_json(said, model / "generation_config.json")
    (tmp_path / "inputs").mkdir()
    inputs = make_inputs(model, tmp_path / "inputs", n_train=5, n_test=2)
    preference.main(arguments(inputs, record_of(lora=lora), tmp_path))
    assert configured_ends(tmp_path / "model") == [1, 40]
