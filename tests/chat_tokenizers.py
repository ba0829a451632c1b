"""Small tokenizers of three kinds, and the chat templates that TRL ships."""

import re
from functools import cache
from pathlib import Path

import trl
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

CORPUS = [
    "the river of Arlen is the Morin and the mill is old",
    "user assistant model system hello world",
    "a tale of two towns, told twice. What is the mill?\n\nIt is old.\n",
]


def byte_level(template, bos, eos, specials=(), adds_bos=True):
    """As Llama-3 and GPT-2: no prefix space, every byte a token."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    first = [bos] if bos else []
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=["<pad>", *first, eos, *specials],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    return finished(bpe, trainer, template, bos if adds_bos else None, bos_token=bos, eos_token=eos)


def prepending(template):
    """As Mistral and Llama-2: a normalizer puts a prefix space after every special token."""
    bpe = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    space = "\u2581"
    bpe.normalizer = normalizers.Sequence(
        [normalizers.Prepend(space), normalizers.Replace(" ", space)]
    )
    bpe.decoder = decoders.Sequence(
        [decoders.Replace(space, " "), decoders.ByteFallback(), decoders.Fuse()]
        + [decoders.Strip(" ", 1, 0)]
    )
    special = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, show_progress=False)
    return finished(bpe, trainer, template, "<s>", bos_token="<s>", eos_token="</s>")


def metaspace(template, specials):
    """As newer sentencepiece conversions: Unigram, a prefix space at the start of the text."""
    unigram = Tokenizer(models.Unigram())
    unigram.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    unigram.decoder = decoders.Metaspace(prepend_scheme="first", split=False)
    trainer = trainers.UnigramTrainer(
        vocab_size=120,
        special_tokens=["<pad>", "<bos>", "<eos>", *specials, "<unk>"],
        unk_token="<unk>",
        initial_alphabet=[chr(i) for i in range(33, 127)] + ["\n"],
        show_progress=False,
    )
    return finished(unigram, trainer, template, "<bos>", bos_token="<bos>", eos_token="<eos>")


def finished(tokenizer, trainer, template, added_bos, **special):
    tokenizer.train_from_iterator(CORPUS * 3, trainer)
    if added_bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{added_bos} $A", special_tokens=[(added_bos, tokenizer.token_to_id(added_bos))]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", chat_template=template, **special
    )


SHIPPED = {
    path.stem: path.read_text()
    for path in sorted((Path(trl.__file__).parent / "chat_templates").glob("*.jinja"))
}
# What ends an assistant's turn in each family, read in its template.
TURN_ENDS = {
    "cohere2": "<|END_RESPONSE|>",
    "cohere": "<|END_OF_TURN_TOKEN|>",
    "deepseek": "<\uff5cend\u2581of\u2581sentence\uff5c>",
    "diffusion_gemma": "<turn|>",
    "gemma4": "<turn|>",
    "gemma": "<end_of_turn>",
    "glm4moe_training": "<|user|>",
    "glm4moe": None,
    "gptoss": "<|return|>",
    "lfm2": "<|im_end|>",
    "llama3": "<|eot_id|>",
    "muse": "<|eot|>",
    "nemotron": "<|im_end|>",
    "phi3": "<|end|>",
    "qwen": "<|im_end|>",
}
# Vision templates that leave out contents that are no lists of parts, or refuse them.
NEED_PARTS = {name for name in SHIPPED if name.startswith(("idefics3", "llava", "smolvlm"))}
_CONTROL = re.compile(
    r"<\|[^|>\n' ]+\|>|<\uff5c[^\uff5c\n']+\uff5c>|\[gMASK\]|<sop>"
    r"|<\|?turn\|?>|</?(?:start|end)_of_turn>"
)


def turn_end_of(name):
    """The token that ends a turn of a shipped template; None if nothing does."""
    return next(token for family, token in TURN_ENDS.items() if name.startswith(family))


@cache
def shipped(name, own_eos=False):
    """A byte-level tokenizer with a shipped template; ``own_eos``: EOS is not the turn's end."""
    template, end = SHIPPED[name], turn_end_of(name)
    end = "<|END_OF_TURN_TOKEN|>" if name.startswith("cohere2") else end  # the second of two ends
    eos = "<eos>" if own_eos or end is None else end
    specials = [t for t in dict.fromkeys(_CONTROL.findall(template)) if t != eos]
    adds_bos = "bos_token" in template
    return byte_level(template, "<bos>", eos, specials, adds_bos)
