# Helpers of the evaluation rules.


def tokens_info(wildcards):
    """Of the tokens that a method's models were trained on; none for the start model."""
    if wildcards.method == "sft":
        return []
    return f"results/data/{wildcards.setting}/tokens.json"


def optional_flag(flag, name):
    """Params function: the flag with the input of that name, or nothing where there is none."""
    return lambda wildcards, input: f"{flag} {input[name]}" if input[name] else ""
